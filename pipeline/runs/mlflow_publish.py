"""Copies run records to MLflow; the only module that imports mlflow.

One experiment per profile, one parent run per pipeline run, one child per stage. The store is
sqlite at the repository root unless MLFLOW_TRACKING_URI is set, and its artifacts lie beside it,
also after a move. Publishing is idempotent: a record remembers how much of it MLflow has.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pipeline.paths import state_root, tracking_uri
from pipeline.runs.arm_runs import ARM, ArmRun
from pipeline.runs.mlflow_place import ARTIFACTS, keep_artifacts_in
from pipeline.runs.records import Published, RunRecord, find_record
from pipeline.runs.views import TABLE, save_view
from uvlm import environment
from uvlm.tracking import read_history

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_MAX_BATCH = 900
_MAX_PARAMS = 100
_MAX_VALUE = 5000
_QUIET = {  # no telemetry, no long waits for a server that is away
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_FORBIDDEN = re.compile(r"[^\w\-. :/]")


class MlflowStore:
    """A connection to the tracking store and the experiment of one profile."""

    def __init__(self, client: MlflowClient, root: Path) -> None:
        self.client = client
        self.root = root

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Self]:
        """Connect under a lock: sqlite is created once, and one process publishes at a time."""
        from filelock import FileLock

        state_root().mkdir(parents=True, exist_ok=True)
        for name, value in _QUIET.items():  # a user's own setting stays
            os.environ.setdefault(name, value)
        with FileLock(state_root() / "mlflow.lock"):
            logging.getLogger("alembic").setLevel(logging.WARNING)
            from mlflow.tracking import MlflowClient

            # Importing mlflow sets up its logger, so this has to come after it.
            logging.getLogger("mlflow").setLevel(logging.WARNING)
            if _is_local():
                keep_artifacts_in(environment.project_root())
            yield cls(MlflowClient(tracking_uri()), environment.project_root())

    def publish(self, record: RunRecord) -> None:
        """Bring MLflow up to date with a record: params once, new numbers, status at the end."""
        noted = find_record(record.stage, record.fingerprint)
        if noted is not None and noted.started == record.started:
            record.published = noted.published  # another process may have been here meanwhile
        self._forget_lost(record)
        parent = self.parent_of(record)
        run_id = record.published.run_id or self._create_child(parent, record)
        record.save()  # so that a crash from here on does not make a second run
        self.client.update_run(run_id, status="RUNNING")
        self._tag(run_id, record.tags)
        self._new_history(run_id, record)
        if record.status != "RUNNING":
            for path in record.artifacts:
                self.log_path(run_id, self.root / path)
            ended = int((record.ended or record.started) * 1000)
            self.client.set_terminated(run_id, record.status, ended)
            if not self._is_arm(parent):  # of an arm's parent, its sweep says how it ended
                self.client.set_terminated(parent, record.status)
        else:
            self.client.update_run(parent, status="RUNNING")
        record.published.status = record.status
        record.save()

    def publish_arm(self, record: ArmRun) -> None:
        """Show an arm of a sweep: the parent of its stages, with tags, numbers and status."""
        self._forget_lost(record)
        parent = self.parent_of(record)
        record.save()
        self._tag(parent, record.tags)
        if TABLE in record.tags:
            save_view(self.client, self.experiment(record.profile), record.tags[TABLE])
        for stage, fingerprint in record.stages.items():
            earlier = find_record(stage, fingerprint)
            if earlier is not None and earlier.pipeline != record.pipeline:
                self.link(earlier, record.pipeline)
        self.log_metrics(parent, record.metrics)
        if record.status == "RUNNING":
            self.client.update_run(parent, status="RUNNING")
        else:
            ended = int((record.ended or record.started) * 1000)
            self.client.set_terminated(parent, record.status, ended)
        record.published.status = record.status
        record.save()

    def link(self, record: RunRecord, pipeline: str) -> None:
        """Show a stage that came from the cache: a child with the earlier run's numbers."""
        copy = record.model_copy(deep=True)
        copy.pipeline = pipeline
        copy.tags = {"uvlm.cached_from": record.published.run_id or "unknown"}
        copy.published = Published()
        parent = self.parent_of(copy)
        query = f"tags.`mlflow.parentRunId` = '{parent}' and tags.`dvc.stage` = '{record.stage}'"
        if self.client.search_runs([self.experiment(record.profile)], query, max_results=1):
            return
        run_id = self._create_child(parent, copy)
        self._tag(run_id, copy.tags)
        last: dict[str, float] = {}
        for line in read_history(record.history):
            last |= line.get("metrics", {})
        self.log_metrics(run_id, last)
        self.client.set_terminated(run_id, "FINISHED")

    def experiment(self, profile: str) -> str:
        """Find or make the experiment `uvlm-<profile>`, its artifacts at the repository root."""
        name = f"uvlm-{profile}"
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = (self.root.resolve() / ARTIFACTS).as_uri() if _is_local() else None
        return str(self.client.create_experiment(name, artifact_location=location))

    def parent_of(self, record: RunRecord) -> str:
        """Find or make the parent run of this record's pipeline."""
        if record.published.parent_id is None:
            query = f"tags.`uvlm.pipeline` = '{record.pipeline}' and tags.`uvlm.kind` = 'pipeline'"
            found = self.client.search_runs([self.experiment(record.profile)], query, max_results=1)
            if found:
                record.published.parent_id = str(found[0].info.run_id)
            else:
                parent = self._create(record, "pipeline", record.pipeline, {})
                self._log_params(parent, record.parent_params)
                record.published.parent_id = parent
        return record.published.parent_id

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Log numbers that belong to no step."""
        self._log_numbers(run_id, [(0, metrics, 0.0)], 0)

    def log_path(self, run_id: str, path: Path) -> None:
        """Copy a file or folder into a run."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        # Asked every time, because the client remembers an address from before a move.
        address = self.client.get_run(run_id).info.artifact_uri
        artifacts: Any = get_artifact_repository(address, tracking_uri=tracking_uri())
        if path.is_dir():
            artifacts.log_artifacts(str(path), path.name)
        elif path.exists():
            artifacts.log_artifact(str(path))

    def _is_arm(self, parent: str) -> bool:
        return ARM in self.client.get_run(parent).data.tags

    def _forget_lost(self, record: RunRecord) -> None:
        """Publish anew what a deleted or exchanged database no longer holds."""
        from mlflow.exceptions import MlflowException

        try:
            for run_id in filter(None, (record.published.run_id, record.published.parent_id)):
                self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            record.published = Published()

    def _create_child(self, parent: str, record: RunRecord) -> str:
        tags = {
            "mlflow.parentRunId": parent,
            "dvc.stage": record.stage,
            "uvlm.fingerprint": record.fingerprint,
        }
        run_id = self._create(record, "stage", record.stage, tags)
        self._log_params(run_id, record.params)
        record.published = Published(run_id=run_id, parent_id=parent)
        return run_id

    def _create(self, record: RunRecord, kind: str, name: str, tags: dict[str, str]) -> str:
        shared = {
            "uvlm.kind": kind,
            "uvlm.pipeline": record.pipeline,
            "uvlm.profile": record.profile,
            "git.commit": record.tags.get("git.commit", "none"),
        }
        experiment, started = self.experiment(record.profile), int(record.started * 1000)
        run = self.client.create_run(experiment, started, shared | tags, run_name=name)
        return str(run.info.run_id)

    def _tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        entries = [Param(key, value[:_MAX_VALUE]) for key, value in params.items()]
        for start in range(0, len(entries), _MAX_PARAMS):
            self.client.log_batch(run_id, params=entries[start : start + _MAX_PARAMS])

    def _new_history(self, run_id: str, record: RunRecord) -> None:
        lines = list(read_history(record.history))[record.published.lines :]
        numbers = [(n["step"], n["metrics"], n["seconds"]) for n in lines if "metrics" in n]
        self._log_numbers(run_id, numbers, record.started)
        for line in lines:
            self._tag(run_id, {k: str(v) for k, v in line.get("tags", {}).items()})
            self._log_params(run_id, {k: str(v) for k, v in line.get("params", {}).items()})
        record.published.lines += len(lines)

    def _log_numbers(
        self, run_id: str, numbers: Iterable[tuple[int, Mapping[str, float], float]], started: float
    ) -> None:
        """Log (step, metrics, seconds since the start) in as few requests as MLflow allows."""
        from mlflow.entities import Metric

        entries = [
            Metric(_FORBIDDEN.sub("_", name), value, int((started + seconds) * 1000), step)
            for step, metrics, seconds in numbers
            for name, value in metrics.items()
        ]
        for start in range(0, len(entries), _MAX_BATCH):
            self.client.log_batch(run_id, metrics=entries[start : start + _MAX_BATCH])


def _is_local() -> bool:
    return environment.TRACKING_URI.read() is None
