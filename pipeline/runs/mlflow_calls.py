"""What the runs of this project need of MLflow, each in a call that may be repeated."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.paths import tracking_uri
from pipeline.runs.mlflow_place import ARTIFACTS
from pipeline.runs.points import Point
from pipeline.runs.records import RunRecord, Status
from pipeline.runs.views import KIND
from uvlm import environment

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_MAX_BATCH = 900
_MAX_PARAMS = 100
_MAX_VALUE = 5000
_MAX_CHILDREN = 1000
_FORBIDDEN = re.compile(r"[^\w\-. :/]")
_ENDED = {"FINISHED", "FAILED", "KILLED"}


class MlflowCalls:
    """A connection to the tracking store of the project at `root`."""

    def __init__(self, client: MlflowClient, root: Path) -> None:
        self.client = client
        self.root = root
        self._experiments: dict[str, str] = {}

    def experiment(self, profile: str) -> str:
        """Find or make the experiment `uvlm-<profile>`, its artifacts at the repository root."""
        if profile not in self._experiments:
            self._experiments[profile] = self._find_experiment(f"uvlm-{profile}")
        return self._experiments[profile]

    def create(self, record: RunRecord, kind: str, name: str, tags: Mapping[str, str]) -> str:
        """Make a run and return its id."""
        shared = {
            "uvlm.kind": kind,
            "uvlm.pipeline": record.pipeline,
            "uvlm.profile": record.profile,
            "uvlm.host": socket.gethostname(),
            "git.commit": record.tags.get("git.commit", "none"),
            "mlflow.source.name": "dvc.yaml" if kind == "pipeline" else f"dvc.yaml: {name}",
            "mlflow.source.type": "PROJECT",
            "mlflow.source.git.commit": record.tags.get("git.commit", "none"),
        }
        experiment = self.experiment(record.profile)
        started = int((record.begun or record.started) * 1000)
        run = self.client.create_run(experiment, started, {**shared, **tags}, run_name=name)
        return str(run.info.run_id)

    def find(self, profile: str, **tags: str) -> Any:
        """Find the one run with these tags; dots are written as double underscores."""
        named = {name.replace("__", "."): value for name, value in tags.items()}
        query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in named.items())
        found = self.client.search_runs([self.experiment(profile)], query, max_results=1)
        return found[0] if found else None

    def children(self, profile: str, parent: str) -> list[Any]:
        """List the runs of a parent's stages, oldest first."""
        return list(
            self.client.search_runs(
                [self.experiment(profile)],
                f"tags.`mlflow.parentRunId` = '{parent}'",
                max_results=_MAX_CHILDREN,
                order_by=["attributes.start_time ASC"],
            )
        )

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags, in one request."""
        from mlflow.entities import RunTag

        if tags:
            self.client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Log parameters, in as few requests as MLflow allows."""
        from mlflow.entities import Param

        entries = [Param(key, value[:_MAX_VALUE]) for key, value in params.items()]
        for start in range(0, len(entries), _MAX_PARAMS):
            self.client.log_batch(run_id, params=entries[start : start + _MAX_PARAMS])

    def log_points(self, run_id: str, points: Iterable[Point], **belongs: str) -> None:
        """Log numbers in as few requests as MLflow allows.

        Args:
            run_id: their run.
            points: what MLflow has of them already stays as it is.
            belongs: `model_id`, `dataset_name` and `dataset_digest`, if they are of a model.
        """
        from mlflow.entities import Metric

        entries = [
            Metric(_FORBIDDEN.sub("_", p.name), p.value, int(p.time * 1000), p.step, **belongs)
            for p in points
        ]
        for start in range(0, len(entries), _MAX_BATCH):
            self.client.log_batch(run_id, metrics=entries[start : start + _MAX_BATCH])

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], **belongs: str) -> None:
        """Log numbers that belong to no step."""
        self.log_points(run_id, [Point(0, *item, 0.0) for item in metrics.items()], **belongs)

    def log_path(self, run_id: str, path: Path) -> None:
        """Copy a file or folder into a run."""
        # Asked every time, because the client remembers an address from before a move.
        address = self.client.get_run(run_id).info.artifact_uri
        artifacts = self.artifacts(address)
        if path.is_dir():
            artifacts.log_artifacts(str(path), path.name)
        elif path.exists():
            artifacts.log_artifact(str(path))

    def artifacts(self, address: str) -> Any:
        """Open the folder of artifacts at an address."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(address, tracking_uri=tracking_uri())

    def set_status(self, run_id: str, status: Status, ended: float) -> None:
        """Say how a run stands; `ended` is in seconds since the epoch, if it has ended."""
        if status in _ENDED:
            self.client.set_terminated(run_id, status, int(ended * 1000))
        else:
            self.client.update_run(run_id, status=status)

    def _find_experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            location = (self.root.resolve() / ARTIFACTS).as_uri() if is_local() else None
            made = self.client.create_experiment(name, location, tags=dict([KIND]))
            return str(made)
        if KIND[0] not in found.tags:
            self.client.set_experiment_tag(found.experiment_id, *KIND)
        return str(found.experiment_id)


def is_local() -> bool:
    """Whether runs are kept in the project, and not where a user says."""
    return environment.TRACKING_URI.read() is None
