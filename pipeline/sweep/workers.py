"""The workers of a sweep: slots, their processes and logs, and what MLflow is told of each arm."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from pipeline.arms.random_qwen import random_qwen
from pipeline.paths import state_root
from pipeline.profiles import flatten
from pipeline.runs.arm_runs import ARM, ArmRun
from pipeline.runs.mlflow_tracker import publish_pending, with_store
from pipeline.runs.numbers import numbers_of
from pipeline.runs.provenance import git_tags, pipeline_id
from pipeline.runs.records import Status, process_start
from pipeline.runs.views import TABLE
from pipeline.sweep.board import Board
from pipeline.sweep.engine import Job, Outcome, Sweep
from pipeline.sweep.finish import RECORDS
from pipeline.sweep.graph import CODE_STAGE, Graph
from pipeline.sweep.leftovers import end_left, settle
from pipeline.sweep.shares import Shares, places
from pipeline.sweep.slots import CODE, Slot, Task
from pipeline.sweep.trial import Trial
from uvlm import environment
from uvlm.arm_record import load_record, record_path
from uvlm.errors import Interrupted, SetupError

_EXIT: Final = re.compile(r"exited with (-?\d+)")
_RETRY_S: Final = 300.0  # a server that is out of reach would hold up every arm


@dataclass(eq=False)
class SlotWorker:
    """A job in its slot, run by a process of its own; its end of the pipe is the leash."""

    slot: Slot
    process: subprocess.Popen[bytes]
    log: Path
    begins_at: int  # bytes of the log that are of earlier jobs

    def done(self) -> list[str]:
        """List the stages that DVC has noted so far."""
        task = self.slot.task()
        return list(task.done) if task else []

    def outcome(self) -> Outcome | None:
        """Return how it ended; None while it runs."""
        if (code := self.process.poll()) is None:
            return None
        end_left(self.slot)
        done = tuple(self.done())
        if not code:
            return Outcome(done)
        problem, number = self._problem(code)
        settle(self.slot)  # it may have died between a stage and DVC's note of it
        return Outcome(done, problem, number, self.log)

    def stop(self) -> None:
        """Ask it to save and stop."""
        assert self.process.stdin is not None
        with suppress(OSError):
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
        shares: what each worker gets of this computer.
    """

    root: Path
    graph: Graph
    slots: list[Slot]
    board: Board
    shares: Shares
    busy: dict[Slot, SlotWorker] = field(default_factory=dict)
    arms: dict[str, ArmRun] = field(default_factory=dict)
    silent_until: float = 0.0  # MLflow, after it was out of reach

    def __post_init__(self) -> None:
        self._places = places(self.root)

    def start(self, job: Job) -> SlotWorker:
        """Start a job in a free slot."""
        number, slot = next((n, s) for n, s in enumerate(self.slots) if not self._is_busy(s))
        task = Task(
            trial=_described(job.trial),
            stages=list(job.stages),
            is_last=job.is_last,
            key=self.graph.last(job.trial).key,
            way=self.graph.way(job.trial),
            project=str(self.root),
        )
        slot.give(job.trial, task)
        log = _log_of(job)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            process = self._process(slot, self._environment(number, job.trial), file)
            self.busy[slot] = worker = SlotWorker(slot, process, log, file.tell())
        return worker

    def began(self, trial: Trial) -> None:
        """Show in MLflow that an arm runs."""
        record = _arm_run(self.slots[0].folder, trial, self.graph)
        record.pid_started = process_start(record.pid)
        record.save()
        self.arms[trial.name] = record
        if time.monotonic() > self.silent_until:
            self._note_outage(with_store(lambda store: store.publish_arm(record)))

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        """Show how an arm ended, on the screen and in MLflow."""
        self.board.ended(trial, outcome)
        if (record := self.arms.get(trial.name)) is None:
            return
        if not outcome.problem:
            self._add_numbers(record, trial)
        was_stopped = outcome.code == Interrupted.exit_code
        status: Status = "KILLED" if was_stopped else "FAILED"
        record.end(status if outcome.problem else "FINISHED")
        if time.monotonic() > self.silent_until:
            self._note_outage(publish_pending())

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

    def _note_outage(self, is_well: bool) -> None:
        self.silent_until = 0.0 if is_well else time.monotonic() + _RETRY_S

    def _add_numbers(self, record: ArmRun, trial: Trial) -> None:
        path = record_path(self.root / RECORDS, trial.profile, trial.arm, trial.seed)
        record.metrics = numbers_of(load_record(path).metrics)
        record.artifacts = [str(path.relative_to(self.root))]  # all numbers, and every case
        for slot in self.slots:
            task = slot.task()
            if task is not None and task.fingerprints and _described(trial) == task.trial:
                record.stages = task.fingerprints

    def _is_busy(self, slot: Slot) -> bool:
        worker = self.busy.get(slot)
        return worker is not None and worker.process.poll() is None

    def _process(
        self, slot: Slot, variables: dict[str, str], log: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.sweep.work"],
            cwd=slot.folder,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def _environment(self, number: int, trial: Trial) -> dict[str, str]:
        """Set the project's places, this worker's shares, and what the arm is."""
        inherited = environment.inherited()
        path = [str(Path(sys.executable).parent), inherited.get("PATH", "")]
        return {
            **inherited,
            **self.shares.of(number),
            **self._places,
            **_qwen(trial),
            environment.EXPERIMENT.name: trial.name,
            "PATH": os.pathsep.join(path),
        }


def _qwen(trial: Trial) -> dict[str, str]:
    """Give an arm with Qwen3 the small random one where a user has no other."""
    if trial.document["decoder"]["kind"] == "scratch" or environment.QWEN3.read() is not None:
        return {}
    with suppress(SetupError):  # a package is missing: the stage `code` of this arm says so
        folder = random_qwen(state_root().resolve() / "random_qwen3")
        return {environment.QWEN3.name: str(folder)}
    return {}


def _log_of(job: Job) -> Path:
    """Name the file of everything that the stages of a job say."""
    stage = next((name for name in job.stages if name != CODE_STAGE), CODE_STAGE)
    return state_root() / "sweep" / "logs" / job.trial.name / f"{stage}.log"


def _described(trial: Trial) -> dict[str, Any]:
    """All of a trial but its parameters, as JSON has it."""
    fields = {name: value for name, value in vars(trial).items() if name != "document"}
    return fields | {"notes": list(trial.notes)}


def _arm_run(folder: Path, trial: Trial, graph: Graph) -> ArmRun:
    """Make the record of an arm that begins; its pipeline is what its stages will call it."""
    document = dict(trial.document)
    tags = {
        ARM: trial.arm,
        TABLE: trial.table,
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
        tags=tags | git_tags(folder, *CODE),
    )
