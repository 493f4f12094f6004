"""Telling MLflow about run records: the only module that imports mlflow.

One experiment per profile, one parent run per pipeline run, one child per stage. The store is
sqlite at the repository root unless MLFLOW_TRACKING_URI says otherwise. Publishing is idempotent:
a record remembers how much MLflow has.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pipeline.paths import state_root, tracking_uri
from pipeline.runs.records import Published, RunRecord
from uvlm import environment
from uvlm.tracking import read_history

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_MAX_BATCH = 900
_MAX_PARAMS = 100
_MAX_VALUE = 5000
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
        set_quiet_environment()
        with FileLock(state_root() / "mlflow.lock"):
            import logging

            logging.getLogger("alembic").setLevel(logging.WARNING)
            from mlflow.tracking import MlflowClient

            logging.getLogger("mlflow").setLevel(logging.WARNING)
            yield cls(MlflowClient(tracking_uri()), environment.project_root())

    def publish(self, record: RunRecord) -> None:
        """Bring MLflow up to date with a record: params once, new numbers, status at the end."""
        experiment = self.experiment(record.profile)
        parent = self._parent(experiment, record)
        if record.published.run_id is None:
            self._create_child(experiment, parent, record)
        run_id = record.published.run_id
        assert run_id is not None
        self.client.update_run(run_id, status="RUNNING")
        self._tag(run_id, record.tags)
        self._new_history(run_id, record)
        if record.status != "RUNNING":
            for path in record.artifacts:
                self.log_path(run_id, Path(path))
            ended = int((record.ended or record.started) * 1000)
            self.client.set_terminated(run_id, record.status, ended)
        self._set_parent_status(parent, record.status)
        record.published.status = record.status
        record.save()

    def publish_all(self, records: Iterable[RunRecord]) -> None:
        """Bring MLflow up to date with several records."""
        for record in records:
            self.publish(record)

    def link(self, record: RunRecord, pipeline: str) -> None:
        """Show a stage that came from the cache: a child with the earlier run's numbers."""
        source = record.published.run_id or "unknown"
        experiment = self.experiment(record.profile)
        copy = record.model_copy(deep=True)
        copy.pipeline = pipeline
        copy.tags = {"uvlm.cached_from": source}
        copy.published = Published()
        parent = self._parent(experiment, copy)
        if self._children(experiment, parent, record.stage):
            return
        self._create_child(experiment, parent, copy)
        run_id = copy.published.run_id
        assert run_id is not None
        self._tag(run_id, copy.tags)
        last: dict[str, float] = {}
        for line in read_history(record.history):
            last |= line.get("metrics", {})
        self.log_metrics(run_id, last, step=0)
        self.client.set_terminated(run_id, "FINISHED")

    def experiment(self, profile: str) -> str:
        """Find or make the experiment `uvlm-<profile>`, its artifacts at the repository root."""
        name = f"uvlm-{profile}"
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        local = environment.TRACKING_URI.read() is None
        location = (self.root / "mlruns").resolve().as_uri() if local else None
        return str(self.client.create_experiment(name, artifact_location=location))

    def parent_of(self, record: RunRecord) -> str:
        """Find or make the parent run of this record's pipeline."""
        return self._parent(self.experiment(record.profile), record)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int) -> None:
        """Log the numbers of one step in as few requests as MLflow allows."""
        self._log_numbers(run_id, [(step, metrics, 0.0)], 0)

    def log_path(self, run_id: str, path: Path) -> None:
        """Copy a file or folder into a run."""
        if path.is_dir():
            self.client.log_artifacts(run_id, str(path), path.name)
        elif path.exists():
            self.client.log_artifact(run_id, str(path))

    def _parent(self, experiment: str, record: RunRecord) -> str:
        if record.published.parent_id is not None:
            return record.published.parent_id
        query = f"tags.`uvlm.pipeline` = '{record.pipeline}' and tags.`uvlm.kind` = 'pipeline'"
        found = self.client.search_runs([experiment], query, max_results=1)
        if found:
            parent_id = str(found[0].info.run_id)
        else:
            parent_id = self._create(experiment, record, "pipeline", record.pipeline, {})
            self._log_params(parent_id, record.parent_params)
        record.published.parent_id = parent_id
        return parent_id

    def _create_child(self, experiment: str, parent: str, record: RunRecord) -> None:
        tags = {
            "mlflow.parentRunId": parent,
            "dvc.stage": record.stage,
            "uvlm.fingerprint": record.fingerprint,
        }
        run_id = self._create(experiment, record, "stage", record.stage, tags)
        self._log_params(run_id, record.params)
        record.published = Published(run_id=run_id, parent_id=parent)
        if "uvlm.cached_from" not in record.tags:
            record.save()

    def _create(
        self, experiment: str, record: RunRecord, kind: str, name: str, tags: dict[str, str]
    ) -> str:
        shared = {
            "uvlm.kind": kind,
            "uvlm.pipeline": record.pipeline,
            "uvlm.profile": record.profile,
            "git.commit": record.tags.get("git.commit", "none"),
        }
        started = int(record.started * 1000)
        run = self.client.create_run(experiment, started, {**shared, **tags}, run_name=name)
        return str(run.info.run_id)

    def _children(self, experiment: str, parent: str, stage: str) -> list[Any]:
        query = f"tags.`mlflow.parentRunId` = '{parent}' and tags.`dvc.stage` = '{stage}'"
        return list(self.client.search_runs([experiment], query, max_results=1))

    def _set_parent_status(self, parent: str, status: str) -> None:
        if status == "RUNNING":
            self.client.update_run(parent, status="RUNNING")
        else:
            self.client.set_terminated(parent, status)

    def _tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        entries = [Param(key, value[:_MAX_VALUE]) for key, value in params.items()]
        for chunk in _chunks(entries, _MAX_PARAMS):
            self.client.log_batch(run_id, params=chunk)

    def _new_history(self, run_id: str, record: RunRecord) -> None:
        lines = list(islice(read_history(record.history), record.published.lines, None))
        numbers = [(n["step"], n["metrics"], n["seconds"]) for n in lines if "metrics" in n]
        self._log_numbers(run_id, numbers, record.started)
        for line in lines:
            self._tag(run_id, {k: str(v) for k, v in line.get("tags", {}).items()})
            self._log_params(run_id, {k: str(v) for k, v in line.get("params", {}).items()})
        record.published.lines += len(lines)

    def _log_numbers(
        self,
        run_id: str,
        numbers: Iterable[tuple[int, Mapping[str, float], float]],
        started: float,
    ) -> None:
        from mlflow.entities import Metric

        entries = [
            Metric(_FORBIDDEN.sub("_", name), value, int((started + seconds) * 1000), step)
            for step, metrics, seconds in numbers
            for name, value in metrics.items()
        ]
        for chunk in _chunks(entries, _MAX_BATCH):
            self.client.log_batch(run_id, metrics=chunk)


def set_quiet_environment() -> None:
    """Turn telemetry off, and long waits for a server that is away."""
    for name, value in {
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    }.items():
        os.environ.setdefault(name, value)


def _chunks(entries: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]
