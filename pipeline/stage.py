"""Runs one DVC stage: validated parameters, tracking, progress, timing, and the exit code.

Exit codes: 0 done, 2 parameters, 3 data refused, 4 environment, 5 interrupted, 70 a bug.

Of the processes of a training the first one keeps records, shows progress and writes; the others
work, and speak only of what went wrong with themselves.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from pipeline.dvc_yaml import read_declarations
from pipeline.launch import run_crew
from pipeline.paths import CODE, PARAMS, state_root
from pipeline.progress import ProgressBar
from pipeline.runs.mlflow_tracker import MlflowTracker
from uvlm.config import Params, load_params
from uvlm.errors import Interrupted, UvlmError
from uvlm.files import write_json_atomic
from uvlm.processes import place
from uvlm.tracking import NullTracker

# glibc returns freed tensors to the system and asks for them again at the next step; keeping them
# takes a quarter off a training step on a CPU. It is read when a process starts.
_KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "500000000",
}
_BUG = 70


@dataclass(frozen=True)
class Stage:
    """What a stage script gets."""

    name: str
    params: Params
    tracker: MlflowTracker | NullTracker
    progress: ProgressBar

    @property
    def code(self) -> str:
        """Give the digest of the code that this stage can reach."""
        return code_digest(self.name)

    def write_training(self, folder: Path, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json and history.csv of a training, which DVC and people read."""
        if isinstance(self.tracker, NullTracker):
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.tracker.write_csv(folder / "history.csv")
        write_json_atomic(folder / "metrics.json", dict(metrics))
        self.tracker.artifact(folder)


def code_digest(name: str) -> str:
    """Read the digest of the code that a stage can reach; nothing where none was written."""
    try:
        text = (CODE / f"{name.partition('@')[0]}.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    return str(json.loads(text)["digest"])


def run_stage(
    name: str,
    work: Callable[[Stage], object],
    *,
    live: bool = False,
    tensors: bool = False,
    crew: bool = False,
) -> NoReturn:
    """Run `work` as the stage `name` and exit with its code.

    Args:
        name: as in dvc.yaml.
        work: the stage.
        live: show the numbers in MLflow while it runs.
        tensors: tune memory for large tensors.
        crew: start as many processes as UVLM_DEVICES says, unless torchrun or srun did.
    """
    if crew:
        run_crew(name)
    if tensors:
        _restart_keeping_memory()
    sys.exit(execute(name, work, live=live))


def execute(name: str, work: Callable[[Stage], object], *, live: bool = False) -> int:
    """Run `work` as the stage `name`; returns the exit code, errors are said on stderr."""
    start = time.monotonic()

    def silent() -> None:
        work(Stage(name, load_params(PARAMS), NullTracker(), ProgressBar(name, shown=False)))

    def tracked() -> None:
        params = load_params(PARAMS)
        declaration = read_declarations(Path.cwd())[name]
        with (
            MlflowTracker(declaration, Path.cwd(), live) as tracker,
            ProgressBar(name) as progress,
        ):
            work(Stage(name, params, tracker, progress))
            _write_timing(name, time.monotonic() - start)

    return _guarded(name, tracked if place().is_first else silent)


def run_share(name: str, work: Callable[[Params, ProgressBar], object]) -> NoReturn:
    """Run one share of a stage's cases and exit with its code.

    A share writes into the store only; the stage, run after all shares, writes outputs and records.
    """

    def untracked() -> None:
        with ProgressBar(name) as progress:
            work(load_params(PARAMS), progress)

    sys.exit(_guarded(name, untracked))


def _guarded(name: str, body: Callable[[], None]) -> int:
    """Run `body`; turn what it raises into one line and an exit code."""
    previous = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
    who = name if place().is_first else f"{name} (process {place().rank})"
    try:
        body()
    except Interrupted as error:
        if place().is_first:
            sys.stderr.write(f"{who}: {error}\n")
        return error.exit_code
    except UvlmError as error:
        sys.stderr.write(f"{error.details}\n" if error.details else "")
        sys.stderr.write(f"{who}: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write(f"{who}: interrupted; run the same command to continue\n")
        return Interrupted.exit_code
    except Exception:
        traceback.print_exc()
        sys.stderr.write(f"{who}: this is a bug; please report it with the lines above\n")
        return _BUG
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def _write_timing(name: str, seconds: float) -> None:
    """Wall seconds and peak resident memory (MB; itself, and its largest child) for the summary."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    timing = {
        "stage": name,
        "seconds": round(seconds, 2),
        "peak_rss_mb": round(own),
        "peak_child_rss_mb": round(child),
    }
    write_json_atomic(state_root() / "timings" / f"{name}.json", timing)


def _restart_keeping_memory() -> None:
    """Start this process anew, before anything heavy is imported, with malloc set for tensors."""
    if any(os.environ.get(key) != value for key, value in _KEEP_MEMORY.items()):
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **_KEEP_MEMORY})


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(
        signal.Signals(number).name, "stopped by a signal", "run the same command to continue"
    )


_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
