"""Run one DVC stage: validated parameters, tracking, progress, timing, and the exit code.

Exit codes: 0 done, 2 parameters, 3 data refused, 4 environment, 5 interrupted, 70 a bug.

In a training of several processes the first one keeps records, shows progress and writes files; the
others report only their own errors.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from pipeline import dvc_yaml
from pipeline.launch import run_processes
from pipeline.named import workspace_of
from pipeline.paths import PARAMS, code, manifest, state_root
from pipeline.progress import ProgressBar
from pipeline.reach import Checkout
from pipeline.runs.mlflow_tracker import MlflowTracker
from pipeline.seen_code import recall
from pipeline.stored_inputs import check_stored
from uvlm import environment
from uvlm.config import Params, load_params
from uvlm.errors import Interrupted, SetupError, tell
from uvlm.estimates.check import check_memory, num_workers
from uvlm.files import store_root, write_json_atomic
from uvlm.processes import place
from uvlm.store import workspaces
from uvlm.store.fanout import largest_worker
from uvlm.tracking import NullTracker, Training

# glibc returns freed tensors to the system and asks for them again at the next step; keeping them
# makes a training step on a CPU a quarter shorter. It reads these variables at process start.
_KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "500000000",
}
# Kept memory falls into pieces too small for the largest tensors, so the peak is higher. Returned
# at once, it costs less in huge pages.
_RETURN_MEMORY = {"THP_MEM_ALLOC_ENABLE": "1"}
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@dataclass(frozen=True)
class Stage:
    """What a stage script gets."""

    params: Params
    causes: dvc_yaml.Causes
    tracker: MlflowTracker | NullTracker
    progress: ProgressBar

    @property
    def code(self) -> str:
        """The digest of the code that this stage reaches; empty before the stage `code` ran."""
        return self.causes.code

    @property
    def training(self) -> Training:
        """What a training needs to know about the run that it belongs to."""
        declared = dvc_yaml.stage_params(
            self.params.model_dump(mode="json"), self.causes.declaration
        )
        return Training(self.causes.fingerprint, declared, self.tracker, self.progress)

    def num_workers(self, name: str) -> int | None:
        """Count the processes for which there is memory; None leaves it to the executor."""
        return num_workers(name, self.params, manifest("index"))

    def write_training(self, folder: Path, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json and history.csv of a training, for DVC and for people."""
        if isinstance(self.tracker, NullTracker):
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.tracker.write_csv(folder / "history.csv")
        write_json_atomic(folder / "metrics.json", dict(metrics))
        self.tracker.artifact(folder)


Work = Callable[[Stage], object]


def run_stage(
    name: str,
    work: Work,
    *,
    live: bool = False,
    tensors: bool = False,
    processes: bool = False,
    recorded: bool = True,
) -> NoReturn:
    """Run `work` as the stage `name` and exit with its code.

    Args:
        name: as in dvc.yaml.
        work: the stage.
        live: show the numbers in MLflow while it runs.
        tensors: tune memory for large tensors.
        processes: start as many as UVLM_DEVICES says, unless torchrun or srun already did.
        recorded: False for a share of the stage, which only fills the store.
    """
    if tensors and (code := _guarded(name, _restart_with_memory_tuned)):
        sys.exit(code)
    sys.exit(execute(name, work, live=live, recorded=recorded, processes=processes))


def execute(
    name: str, work: Work, *, live: bool = False, recorded: bool = True, processes: bool = False
) -> int:
    """Run `work` as the stage `name`; errors go to stderr, the exit code is returned.

    Not `recorded`, it only fills the store, as a share of a stage does.
    """
    start = time.monotonic()

    def body() -> None:
        if processes:
            run_processes()
        root = Path.cwd()
        params, declaration = load_params(PARAMS), dvc_yaml.read_declarations(root)[name]
        is_silent = recorded and not place().is_first
        if not is_silent:
            _check_code(declaration.script)
        causes = dvc_yaml.read_causes(root, declaration)
        if not is_silent:
            check_stored(root, declaration)
            check_memory(name, params, manifest("index"))
        tracking: AbstractContextManager[MlflowTracker | NullTracker] = nullcontext(NullTracker())
        if recorded and not is_silent:
            tracking = MlflowTracker(causes, root, live)
        workspaces.register(store_root(), workspace_of(root))
        with (
            workspaces.used(store_root()),
            tracking as tracker,
            ProgressBar(name, shown=not is_silent) as progress,
        ):
            work(Stage(params, causes, tracker, progress))
            if isinstance(tracker, MlflowTracker):
                _write_timing(name, time.monotonic() - start)

    return _guarded(name, body)


def _guarded(name: str, body: Callable[[], None]) -> int:
    """Run `body`; turn what it raises into one line and an exit code."""
    previous = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
    who = name
    try:
        if not place().is_first:
            who = f"{name} (process {place().rank})"
        body()
    except Interrupted as error:
        if place().world_size > 1:
            # All stop with the first that is told; the signal may reach the others after that.
            previous = dict.fromkeys(previous, signal.SIG_IGN)
        if who == name:  # every process stops, one reports it
            sys.stderr.write(f"{who}: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write(f"{who}: interrupted; run the same command to continue\n")
        return Interrupted.exit_code
    except Exception as error:
        return tell(error, who)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def _check_code(script: str) -> None:
    """Refuse code that `code` has not seen; the result would be recorded as that of other code."""
    noted, root = dvc_yaml.code_digest(code(script)), Path.cwd()
    if not noted:
        return
    found = recall(root).get(script)
    if found is None:
        found = Checkout(root).describe(script, dvc_yaml.params_by_script(root)[script])
    if noted != found["digest"]:
        remedy = "run `dvc repro -f -s code`, then this again"
        raise SetupError(code(script), "was written for other code", remedy)


def _write_timing(name: str, seconds: float) -> None:
    """Note seconds and peak memory in MB, of this process and its largest child or worker."""
    own, child = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    largest = max(child.ru_maxrss, largest_worker() // 1024)  # workers have not ended yet
    timing = {
        "stage": name,
        "seconds": round(seconds, 2),
        "peak_rss_mb": round(own.ru_maxrss / 1024),
        "peak_child_rss_mb": round(largest / 1024),
    }
    write_json_atomic(state_root() / "timings" / f"{name}.json", timing)


def memory_tuning() -> dict[str, str]:
    """Return the variables that tune malloc for tensors."""
    return _KEEP_MEMORY if environment.KEEP_MEMORY.read() else _RETURN_MEMORY


def _restart_with_memory_tuned() -> None:
    """Restart this process with malloc tuned for tensors, before anything heavy is imported."""
    wanted = environment.inherited() | memory_tuning()
    if wanted != environment.inherited():
        os.execve(sys.executable, sys.orig_argv, wanted)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(
        signal.Signals(number).name, "stopped by a signal", "run the same command to continue"
    )
