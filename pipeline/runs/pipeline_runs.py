"""Runs of the whole pipeline, on disk: each is the parent of its stages in MLflow.

    <project>/.uvlm/pipelines/<id>/record.json

Its process is the DVC command that started the stages, so a run begins and ends with `dvc repro` or
`dvc exp run`; a stage that was started by hand is a run of its own process. The next stage or
`uvlm` command finds the process gone and closes the run, as it does for a stage. Of an arm, the
sweep keeps a record instead (arm_runs.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from pipeline.dvc_yaml import read_declarations
from pipeline.paths import state_root
from pipeline.runs.arm_runs import read_arms
from pipeline.runs.records import RunRecord, is_dead, process_start

_END: Final = "summarize"  # the last stage of a run without goals


class PipelineRun(RunRecord):
    """One run of the pipeline; `stage` and `fingerprint` are its id.

    Args:
        goals: the stages with which it is complete.
        by_dvc: whether a DVC command started its stages.
    """

    goals: tuple[str, ...] = (_END,)
    by_dvc: bool = False

    @property
    def folder(self) -> Path:
        """Where this record lives."""
        return folder_of(self.pipeline)

    @property
    def is_alive(self) -> bool:
        """Whether more stages may come; of another machine's command it is believed."""
        return not is_dead(self)

    @property
    def key(self) -> str:
        """Tell this run from an earlier one of the same code and parameters."""
        return f"{self.pipeline}@{self.begun:.3f}"


def folder_of(pipeline: str) -> Path:
    """Name the folder of the record of a pipeline run."""
    return state_root() / "pipelines" / pipeline


def find_pipeline(pipeline: str) -> PipelineRun | None:
    """Find the latest run of these parameters and this code; None for an arm's."""
    path = folder_of(pipeline) / "record.json"
    if not path.exists():
        return None
    return PipelineRun.model_validate_json(path.read_text(encoding="utf-8"))


def read_pipelines() -> list[PipelineRun]:
    """Read the record of every pipeline run."""
    names = sorted(path.parent.name for path in state_root().glob("pipelines/*/record.json"))
    return [run for run in map(find_pipeline, names) if run is not None]


def begin(record: RunRecord, root: Path) -> None:
    """Note that a stage begins: its run goes on, or another one of the same parameters begins."""
    if any(arm.pipeline == record.pipeline for arm in read_arms()):
        return
    run = _new_run(record, root)
    earlier = find_pipeline(record.pipeline)
    if earlier is not None and not _is_another(earlier, run):
        run.begun, run.published = earlier.begun, earlier.published
        run.published.status = None
    run.save()


def _is_another(earlier: PipelineRun, run: PipelineRun) -> bool:
    """Whether a finished run is run again; one that was stopped is continued."""
    is_same = (earlier.host, earlier.pid, earlier.pid_started) == (
        run.host, run.pid, run.pid_started
    )  # fmt: skip
    return earlier.status == "FINISHED" and run.by_dvc and not is_same


def _new_run(record: RunRecord, root: Path) -> PipelineRun:
    run = PipelineRun(
        stage=record.pipeline,
        fingerprint=record.pipeline,
        pipeline=record.pipeline,
        profile=record.profile,
        pid=record.pid,
        started=record.started,
        begun=record.started,
        parent_params=record.parent_params,
        tags=record.tags,
    )
    found = _dvc_command()
    if found is not None:
        run.pid, arguments = found
        run.started = run.begun = process_start(run.pid) or record.started
        run.by_dvc = True
        run.goals = tuple(a for a in arguments if a in read_declarations(root)) or (_END,)
    run.pid_started = process_start(run.pid)
    return run


def _dvc_command() -> tuple[int, list[str]] | None:
    """Find the DVC command that started this process: its id and arguments."""
    import psutil

    for process in psutil.Process().parents():
        with suppress(psutil.Error):
            command = process.cmdline()
            if is_dvc(command):
                return process.pid, command
    return None


def is_dvc(command: Sequence[str]) -> bool:
    """Whether a command line is one of DVC's."""
    return any(Path(word).name == "dvc" for word in command[:2]) or command[1:3] == ["-m", "dvc"]
