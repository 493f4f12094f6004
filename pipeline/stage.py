"""Runs one DVC stage: validated parameters, tracking, progress, timing, and the exit code.

Exit codes: 0 done, 2 parameters, 3 data refused, 4 environment, 5 interrupted, 70 a bug.

Of the processes of a training the first one keeps records, shows progress and writes; the others
work, and speak only of what went wrong with themselves.
"""

from __future__ import annotations

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

from pipeline.dvc_yaml import (
    Declaration,
    code_digest,
    params_by_script,
    read_causes,
    read_declarations,
    stage_params,
)
from pipeline.launch import run_crew
from pipeline.paths import PARAMS, code, state_root
from pipeline.progress import ProgressBar
from pipeline.reach import Sources
from pipeline.runs.mlflow_tracker import MlflowTracker
from uvlm import environment
from uvlm.config import Params, load_params
from uvlm.errors import Interrupted, SetupError, UvlmError
from uvlm.files import write_json_atomic
from uvlm.processes import place
from uvlm.tracking import NullTracker, Training

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

    declaration: Declaration
    params: Params
    tracker: MlflowTracker | NullTracker
    progress: ProgressBar
    fingerprint: str

    @property
    def code(self) -> str:
        """The digest of the code that this stage reaches; empty before the stage `code` ran."""
        return code_digest(code(self.declaration.script))

    @property
    def training(self) -> Training:
        """What a training is told of how it runs."""
        declared = stage_params(self.params.model_dump(mode="json"), self.declaration)
        return Training(self.fingerprint, declared, self.tracker, self.progress)

    def write_training(self, folder: Path, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json and history.csv of a training, which DVC and people read."""
        if isinstance(self.tracker, NullTracker):
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.tracker.write_csv(folder / "history.csv")
        write_json_atomic(folder / "metrics.json", dict(metrics))
        self.tracker.artifact(folder)


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

    def read() -> tuple[Params, Declaration]:
        return load_params(PARAMS), read_declarations(Path.cwd())[name]

    def silent() -> None:
        params, declaration = read()
        fingerprint = read_causes(Path.cwd(), declaration).fingerprint
        progress = ProgressBar(name, shown=False)
        work(Stage(declaration, params, NullTracker(), progress, fingerprint))

    def tracked() -> None:
        params, declaration = read()
        _check_code(declaration.script)
        with (
            MlflowTracker(declaration, Path.cwd(), live) as tracker,
            ProgressBar(name) as progress,
        ):
            work(Stage(declaration, params, tracker, progress, tracker.record.fingerprint))
            _write_timing(name, time.monotonic() - start)

    return _guarded(name, lambda: tracked() if place().is_first else silent())


def run_share(name: str, work: Callable[[Params, ProgressBar, str], object]) -> NoReturn:
    """Run one share of a stage's cases, told the digest of its code, and exit with its exit code.

    A share writes into the store only; the stage, run after all shares, writes outputs and records.
    """

    def untracked() -> None:
        script = name.partition("@")[0]
        _check_code(script)
        with ProgressBar(name) as progress:
            work(load_params(PARAMS), progress, code_digest(code(script)))

    sys.exit(_guarded(name, untracked))


def _guarded(name: str, body: Callable[[], None]) -> int:
    """Run `body`; turn what it raises into one line and an exit code."""
    previous = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
    who = name
    try:
        if not place().is_first:
            who = f"{name} (process {place().rank})"
        body()
    except Interrupted as error:
        if who == name:  # all processes stop, and one says so
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


def _check_code(script: str) -> None:
    """Refuse code that the stage `code` has not seen: the result would pass for that of another."""
    told = code_digest(code(script))
    root = Path.cwd()
    if told and told != Sources(root).describe(script, params_by_script(root)[script])["digest"]:
        raise SetupError(code(script), "is of other code", "run `dvc repro -f -s code`, then this")


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
    wanted = environment.inherited() | _KEEP_MEMORY
    if wanted != environment.inherited():
        os.execve(sys.executable, sys.orig_argv, wanted)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(
        signal.Signals(number).name, "stopped by a signal", "run the same command to continue"
    )


_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
