"""The workers of a sweep: slots, their processes and logs, and what MLflow is told of each arm."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import psutil

from pipeline.arms.random_qwen import random_qwen
from pipeline.paths import state_root
from pipeline.profiles import flatten
from pipeline.runs.arm_runs import ARM, ArmRun
from pipeline.runs.mlflow_tracker import publish_pending, with_store
from pipeline.runs.provenance import git_tags, pipeline_id
from pipeline.runs.publish_run import numbers_of
from pipeline.runs.records import Status, process_start
from pipeline.sweep.board import Board
from pipeline.sweep.engine import Job, Outcome, Sweep
from pipeline.sweep.finish import RECORDS
from pipeline.sweep.graph import Graph
from pipeline.sweep.slots import Slot, Task, settle, slots_of
from pipeline.sweep.trial import Trial
from pipeline.sweep.work import GRACE_S
from uvlm import environment
from uvlm.arm_record import load_record, record_path
from uvlm.errors import Interrupted
from uvlm.memory import usable_memory

_EXIT: Final = re.compile(r"exited with (-?\d+)")


@dataclass(eq=False)
class SlotWorker:
    """A job in its slot, run by a process of its own; its end of the pipe is the leash."""

    slot: Slot
    process: subprocess.Popen[bytes]
    log: Path
    begins_at: int  # bytes of the log that are of earlier jobs

    def outcome(self) -> Outcome | None:
        """Return how it ended; None while it runs."""
        if (code := self.process.poll()) is None:
            return None
        end_left(self.slot)
        task = self.slot.task()
        done = list(task.done) if task else []
        if code:  # the process may have died between a stage and DVC's note of it
            done += settle(self.slot)
        return Outcome(tuple(done), *self._problem(code)) if code else Outcome(tuple(done))

    def stop(self) -> None:
        """Ask it to save and stop."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def _problem(self, code: int) -> tuple[str, int]:
        """Say in one line why it ended, in the words of the stage if it left any; its exit code."""
        with self.log.open("rb") as file:
            file.seek(self.begins_at)
            lines = file.read().decode(errors="replace").splitlines()
        task = self.slot.task()
        stage = next((s for s in task.stages if s not in task.done), "") if task else ""
        said = [line for line in lines if line.startswith(f"{stage}: ")] if stage else []
        exits = [int(found) for found in _EXIT.findall("\n".join(lines))]
        found = exits[-1] if exits else code
        if found < 0 or found > 128:
            return f"{stage or 'its worker'}: was killed", Interrupted.exit_code
        errors = said or [line for line in lines if line.startswith("ERROR: ")] or lines
        return errors[-1] if errors else f"{stage}: ended with {found}", found


@dataclass(eq=False)
class Workers:
    """What `Sweep` is given to work with.

    Args:
        root: the project.
        graph: of all trials.
        slots: one for each worker.
        board: where people read how far it is.
    """

    root: Path
    graph: Graph
    slots: list[Slot]
    board: Board
    busy: dict[str, SlotWorker] = field(default_factory=dict)  # by the slot's name
    arms: dict[str, ArmRun] = field(default_factory=dict)

    def start(self, job: Job) -> SlotWorker:
        """Start a job in a free slot."""
        slot = next(slot for slot in self.slots if not self._is_busy(slot))
        task = Task(
            trial=_described(job.trial),
            stages=list(job.stages),
            is_last=job.is_last,
            key=self.graph.last(job.trial).key,
            way=self.graph.way(job.trial),
            project=str(self.root),
        )
        slot.give(job.trial, task)
        log = log_of(job.trial)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            worker = SlotWorker(slot, self._process(slot, job.trial, file), log, file.tell())
        self.busy[slot.folder.name] = worker
        return worker

    def began(self, trial: Trial) -> None:
        """Show in MLflow that an arm runs."""
        record = _arm_run(self.slots[0].folder, trial, self.graph)
        record.pid_started = process_start(record.pid)
        record.save()
        self.arms[trial.name] = record
        with_store(lambda store: store.publish_arm(record))

    def ended(self, trial: Trial, problem: str = "") -> None:
        """Show how an arm ended, on the screen and in MLflow."""
        was_killed = problem.endswith(("was killed", "was stopped"))
        status: Status = "FINISHED" if not problem else "KILLED" if was_killed else "FAILED"
        self.board.ended(trial, problem, log_of(trial))
        if (record := self.arms.get(trial.name)) is None:
            return
        if not problem:
            self._add_numbers(record, trial)
        record.end(status)
        publish_pending()

    def look(self, sweep: Sweep) -> None:
        """Show how far everything is."""
        self.board.look(sweep)

    def stop(self) -> None:
        """Let every worker save and stop; wait for them."""
        working = [worker for worker in self.busy.values() if worker.process.poll() is None]
        for worker in working:
            worker.stop()
        for worker in working:
            worker.process.wait()  # it ends its group after GRACE_S
            worker.outcome()

    def _add_numbers(self, record: ArmRun, trial: Trial) -> None:
        path = record_path(self.root / RECORDS, trial.profile, trial.arm, trial.seed)
        record.metrics = numbers_of(load_record(path).metrics)
        for slot in self.slots:
            task = slot.task()
            if task is not None and task.fingerprints and _described(trial) == task.trial:
                record.stages = task.fingerprints

    def _is_busy(self, slot: Slot) -> bool:
        worker = self.busy.get(slot.folder.name)
        return worker is not None and worker.process.poll() is None

    def _process(self, slot: Slot, trial: Trial, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.sweep.work"],
            cwd=slot.folder,
            env=self._environment(trial),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def _environment(self, trial: Trial) -> dict[str, str]:
        """Set the project's folders, and this worker's part of cores and memory."""
        inherited, num = environment.inherited(), len(self.slots)
        binaries = str(Path(sys.executable).parent)
        shares = {
            environment.WORKERS.name: str(max(1, environment.allowed_cores() // num)),
            environment.MEMORY.name: f"{max(1, usable_memory().num_bytes // num // 10**6)}MB",
        }
        # A worker's folder is its slot, so folders that a user named are given from the root.
        named = {v.name: v.read() for v in environment.TABLE if v.name in inherited}
        folders = {name: str(p.resolve()) for name, p in named.items() if isinstance(p, Path)}
        return {
            **shares,
            **inherited,
            **folders,
            **_qwen(trial),
            environment.DVC_ROOT.name: str(self.root),
            environment.EXPERIMENT.name: trial.name,
            "PATH": os.pathsep.join([binaries, inherited.get("PATH", "")]),
        }


def _qwen(trial: Trial) -> dict[str, str]:
    """Give an arm with Qwen3 the small random one where a user has no other."""
    if trial.document["decoder"]["kind"] == "scratch" or environment.QWEN3.read() is not None:
        return {}
    folder = random_qwen(state_root().resolve() / "random_qwen3")
    return {environment.QWEN3.name: str(folder)}


def log_of(trial: Trial) -> Path:
    """Name the file of everything that a trial's stages say."""
    return state_root() / "sweep" / "logs" / f"{trial.name}.log"


def clear(project: Path, folder: Path) -> list[str]:
    """Take over what a killed sweep left: end its processes, let DVC note finished stages.

    Returns:
        The stages that had finished.
    """
    settled: list[str] = []
    for slot in slots_of(project, folder):
        end_left(slot)
        settled += settle(slot)
        slot.remove()
    return settled


def end_left(slot: Slot) -> None:
    """Ask what a dead worker left in a slot to save and stop; wait for it, in the end without."""
    for number, seconds in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, 10.0)):
        left = _processes_in(slot)
        for process in left:
            with suppress(psutil.Error):
                process.send_signal(number)
        psutil.wait_procs(left, seconds)


def _processes_in(slot: Slot) -> list[psutil.Process]:
    """Find the processes of a slot's worker: of its group, and with the slot as their folder."""
    task, found = slot.task(), list[psutil.Process]()
    if task is None or not task.group:
        return found
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getpgid(process.pid) == task.group and process.cwd() == str(slot.folder):
                found.append(process)
    return found


def _described(trial: Trial) -> dict[str, Any]:
    """All of a trial but its parameters, as JSON has it."""
    fields = {name: value for name, value in vars(trial).items() if name != "document"}
    return fields | {"notes": list(trial.notes)}


def _arm_run(folder: Path, trial: Trial, graph: Graph) -> ArmRun:
    """Make the record of an arm that begins; its pipeline is what its stages will call it."""
    document = dict(trial.document)
    tags = {
        ARM: trial.arm,
        "uvlm.table": trial.table,
        "uvlm.row": trial.row,
        "uvlm.seed": str(trial.seed),
        "uvlm.key": graph.last(trial).key,
        "mlflow.runName": trial.name,
    }
    return ArmRun(
        stage=trial.name,
        fingerprint=graph.last(trial).key,
        pipeline=pipeline_id(folder, document, trial.name),
        profile=trial.profile,
        parent_params={key: str(value) for key, value in flatten(document).items()},
        tags=tags | git_tags(folder),
    )
