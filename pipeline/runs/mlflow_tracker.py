"""The tracker of a pipeline stage: JSONL first, MLflow after, and a status that is always right.

    how the stage ends           status in MLflow     reported by
    normally                     FINISHED             itself if a training, else the next training
    exception                    FAILED               itself
    SIGTERM, SIGUSR1, Ctrl-C     KILLED               itself
    kill -9, out of memory       KILLED               the next stage or `uvlm` command

Opening MLflow takes seconds, so short stages leave their record to whoever opens it next, at the
latest to `summarize`. An outage of the tracking server is reported once and never stops a stage.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

from pipeline.dvc_yaml import Causes, digest
from pipeline.runs.arm_runs import read_arms
from pipeline.runs.lineage import Lineage, lineage_of
from pipeline.runs.mlflow_place import keep_artifacts_in, running_in
from pipeline.runs.mlflow_publish import MlflowStore
from pipeline.runs.pipeline_runs import PipelineRun, begin, find_pipeline, read_pipelines
from pipeline.runs.provenance import new_record
from pipeline.runs.records import RunRecord, Status, open_record, read_records, reap_dead
from uvlm import environment
from uvlm.errors import Interrupted, first_line
from uvlm.tracking import JsonlTracker

_PUBLISH_EVERY_S = 30.0
Record = TypeVar("Record", bound=RunRecord)


class MlflowTracker(JsonlTracker):
    """Tracks one stage; a context manager whose exit decides the status.

    Args:
        causes: what decides the stage's result.
        root: the workspace with params.yaml and dvc.yaml.
        live: publish while running, for trainings.
    """

    def __init__(self, causes: Causes, root: Path, live: bool = False) -> None:
        self.live = live
        self.record = new_record(root, causes)
        self._root, self._declaration = root, causes.declaration
        self._last_published = time.monotonic()
        super().__init__(self.record.history)

    def __enter__(self) -> Self:
        reap()
        self.record = open_record(self.record)
        begin(self.record, self._root)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:  # by these a sweep knows them, if it dies before DVC has noted them
            outs = self._declaration.outs
            self.record.outputs = {out: digest(self._root / out) for out in outs}
            self._note_result()
        self.record.end(_status_of(kind))
        if self.live or kind is not None:
            self._publish()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write the numbers down; now and then show them in MLflow."""
        super().log(metrics, step)
        if self.live and time.monotonic() - self._last_published > _PUBLISH_EVERY_S:
            self._publish()

    def artifact(self, path: Path) -> None:
        """Keep a copy of this file or folder when the run ends."""
        path, root = path.resolve(), environment.project_root().resolve()
        # Relative to the project, which may be moved before MLflow is told.
        inside = path.relative_to(root) if path.is_relative_to(root) else path
        self.record.artifacts.append(str(inside))
        self.record.save()

    def _note_result(self) -> None:
        """Note where the result comes from; a result is not lost because that cannot be told."""
        try:
            self.record.lineage = self._lineage()
            self._keep_cases()
        except Exception as error:
            fact = f"where its result comes from was not noted ({first_line(error)})"
            sys.stderr.write(f"{self.record.stage}: {fact}\n")

    def _lineage(self) -> Lineage:
        record = self.record
        source = record.parent_params.get("download.source", "unknown")
        lineage = lineage_of(self._root, self._declaration, record.profile, source)
        if lineage.makes is not None and find_pipeline(record.pipeline) is None:
            lineage.makes.by_artifact = False  # of an arm
        return lineage

    def _keep_cases(self) -> None:
        """Keep what `uvlm promote` compares models by."""
        if self.record.stage == "evaluate" and self.record.lineage and self.record.lineage.scored:
            from pipeline.runs.case_results import write_test_cases

            self.artifact(write_test_cases(self._root, self.record))

    def _publish(self) -> None:
        with_store(lambda store: store.publish(self.record))
        self._last_published = time.monotonic()


def reap() -> list[RunRecord]:
    """Mark runs whose process is gone as KILLED, here and in MLflow, and return them."""
    dead = reap_dead(read_records())
    if reap_dead(read_arms()) or dead or _gone() or _has_ghosts():
        publish_pending()
    return dead


def _has_ghosts() -> bool:
    """Whether the project's own database holds a run as RUNNING of which no record says so."""
    if environment.TRACKING_URI.read() is not None:
        return False
    records = [*read_records(), *read_pipelines(), *read_arms()]
    known = {i for r in records if r.status == "RUNNING" for i in r.published.ids}
    return bool(running_in(environment.project_root()) - known)


def find_artifacts() -> None:
    """After a move, let MLflow's page find the artifacts of earlier runs again, if it can be."""
    with suppress(sqlite3.Error):  # locked by an open page, or read-only
        if environment.TRACKING_URI.read() is None:
            keep_artifacts_in(environment.project_root())


def publish_pending() -> bool:
    """Bring MLflow up to date with every record that has ended; tell whether it could be."""

    def publish_each(store: MlflowStore) -> None:
        for record in pending(read_records()):  # again: nobody else has the store now
            store.publish(record)
        for arm in pending(read_arms()):
            store.publish_arm(arm)
        for run in _gone():
            store.publish_pipeline(run)
        store.end_ghosts([*read_records(), *read_pipelines(), *read_arms()])

    is_behind = pending(read_records()) or pending(read_arms()) or _gone() or _has_ghosts()
    return with_store(publish_each) if is_behind else True


def _gone() -> list[PipelineRun]:
    """List the pipeline runs that nobody has closed, though their command is gone."""
    return [run for run in read_pipelines() if run.status == "RUNNING" and not run.is_alive]


def with_store(work: Callable[[MlflowStore], object]) -> bool:
    """Run `work` on the tracking store; an outage of any kind is reported, survived and returned.

    Returns:
        Whether all of it was done.
    """
    try:
        with MlflowStore.open() as store:
            work(store)
    except Exception as error:
        sys.stderr.write(
            f"MLflow is out of reach ({first_line(error)}); "
            "the records stay in .uvlm/runs and are sent later\n"
        )
        return False
    return True


def pending(records: Iterable[Record]) -> list[Record]:
    """Choose the records that MLflow does not have as they ended."""
    return [record for record in records if record.is_pending]


def _status_of(kind: type[BaseException] | None) -> Status:
    if kind is None:
        return "FINISHED"
    return "KILLED" if issubclass(kind, (Interrupted, KeyboardInterrupt)) else "FAILED"
