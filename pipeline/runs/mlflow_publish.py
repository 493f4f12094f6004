"""Copies run records to MLflow.

One experiment per profile, one parent run per pipeline run, one child per stage. The store is
sqlite at the repository root unless MLFLOW_TRACKING_URI is set, and its artifacts lie beside it,
also after a move. Publishing is idempotent: a record remembers how much of it MLflow has, and what
was sent by a process that died before it could note so is found again by its tags.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from pipeline.paths import state_root, tracking_uri
from pipeline.runs.arm_runs import ARM, ArmRun
from pipeline.runs.mlflow_calls import MlflowCalls, is_local
from pipeline.runs.mlflow_models import publish_lineage
from pipeline.runs.mlflow_place import keep_artifacts_in
from pipeline.runs.mlflow_schema import upgrade_schema
from pipeline.runs.numbers import headline_of
from pipeline.runs.outcome import status_of
from pipeline.runs.pipeline_runs import PipelineRun, find_pipeline
from pipeline.runs.points import new_points
from pipeline.runs.records import Published, RunRecord, Status, find_record
from pipeline.runs.views import TABLE, save_view
from uvlm import environment
from uvlm.tracking import read_history

if TYPE_CHECKING:
    from mlflow.entities import Run

_QUIET = {  # no telemetry, no bars, no long waits for a server that is away
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class MlflowStore(MlflowCalls):
    """Brings MLflow up to date with records."""

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Self]:
        """Connect under a lock: sqlite is created once, and one process publishes at a time."""
        from filelock import FileLock

        state_root().mkdir(parents=True, exist_ok=True)
        for name, value in _QUIET.items():  # a user's own setting stays
            os.environ.setdefault(name, value)
        with FileLock(state_root() / "mlflow.lock"):
            for name in ("alembic", "mlflow"):
                logging.getLogger(name).setLevel(logging.WARNING)
            from mlflow.tracking import MlflowClient

            # Importing mlflow sets up its logger, so this has to come after it.
            logging.getLogger("mlflow").setLevel(logging.WARNING)
            root = environment.project_root()
            if is_local():
                upgrade_schema(root)
                keep_artifacts_in(root)
            yield cls(MlflowClient(tracking_uri()), root)

    def publish(self, record: RunRecord) -> None:
        """Bring MLflow up to date with a stage: params once, new numbers, status, then files."""
        noted = find_record(record.stage, record.fingerprint)
        if noted is not None and noted.started == record.started:
            record.published = noted.published  # another process may have been here meanwhile
        self._forget_lost(record)
        parent = self.parent_of(record)
        run_id = record.published.run_id or self._child(parent, record)
        record.save()  # so that a crash from here on does not make a second run
        if record.status == "RUNNING":
            self.client.update_run(run_id, status="RUNNING")
        self.tag(run_id, record.tags)
        self._new_history(run_id, record)
        if record.status != "RUNNING":  # before its files, which may not fit on the disk
            self.set_status(run_id, record.status, record.ended or record.started)
        self._settle(record, parent)
        if record.status != "RUNNING":
            for path in record.artifacts:
                self.log_path(run_id, self.root / path)
            publish_lineage(self, record, run_id)
        record.published.status = record.status
        record.save()

    def publish_arm(self, record: ArmRun) -> None:
        """Show an arm of a sweep: the parent of its stages, with tags, numbers and status."""
        self._forget_lost(record)
        parent = self.parent_of(record)
        record.save()
        self.tag(parent, record.tags)
        if TABLE in record.tags:
            save_view(self.client, self.experiment(record.profile), record.tags[TABLE])
        for stage, fingerprint in record.stages.items():
            earlier = find_record(stage, fingerprint)
            if earlier is not None and earlier.pipeline != record.pipeline:
                self.link(earlier, record)
        self.log_metrics(parent, headline_of(record.metrics))
        self.set_status(parent, record.status, record.ended or record.started)
        for path in record.artifacts:
            self.log_path(parent, self.root / path)
        record.published.status = record.status
        record.save()

    def publish_pipeline(self, run: PipelineRun) -> None:
        """Close the run of a command that is gone, as its stages ended."""
        self._forget_lost(run)
        parent = self.parent_of(run)
        run.save()
        self._close(run, parent)

    def end_ghosts(self, records: Iterable[RunRecord]) -> None:
        """End what is RUNNING though nothing runs: its record was lost or replaced.

        Runs of other machines are left alone; a run from before runs had a host is one of ours.
        """
        known = {i for r in records if r.status == "RUNNING" for i in r.published.ids}
        for experiment in self.client.search_experiments(filter_string="name LIKE 'uvlm-%'"):
            ids = [experiment.experiment_id]
            running = self.client.search_runs(ids, "attributes.status = 'RUNNING'")
            ghosts = [r for r in running if r.info.run_id not in known and _is_ours(r)]
            # Stages first: parents follow them.
            for run in sorted(ghosts, key=lambda run: run.data.tags.get("uvlm.kind") != "stage"):
                self._end_ghost(run, experiment.name.removeprefix("uvlm-"))

    def _end_ghost(self, run: Run, profile: str) -> None:
        run_id, began = run.info.run_id, run.info.start_time / 1000
        if run.data.tags.get("uvlm.kind") != "pipeline":
            self.set_status(run_id, "KILLED", began)
            return
        stages, ended = self._stages(profile, run_id)
        status = status_of(stages, (), is_alive=False) if stages else "KILLED"
        self.set_status(run_id, status, ended or began)

    def link(self, earlier: RunRecord, run: RunRecord) -> None:
        """Show a stage that came from the cache: a child with the earlier run's numbers.

        It took no time in this run; `uvlm.cached_seconds` says how long it took when it ran.
        """
        parent, stage = self.parent_of(run), earlier.stage
        query = {"mlflow__parentRunId": parent, "dvc__stage": stage}
        found = self.find(run.profile, **query)
        if found is not None and found.info.status == "FINISHED":
            return
        copy = earlier.model_copy(deep=True)
        copy.pipeline, copy.profile, copy.begun = run.pipeline, run.profile, time.time()
        copy.tags = {"uvlm.cached_from": earlier.published.run_id or "unknown"}
        if copy.lineage is not None:
            copy.lineage.scores = {}  # they are told of the run that measured them
        if earlier.ended:
            copy.tags["uvlm.cached_seconds"] = f"{earlier.ended - earlier.started:.1f}"
        run_id = found.info.run_id if found else self._child(parent, copy)
        self.tag(run_id, copy.tags)
        last: dict[str, float] = {}
        for line in read_history(earlier.history):
            last |= line.get("metrics", {})
        self.log_metrics(run_id, last)
        publish_lineage(self, copy, run_id)
        self.set_status(run_id, "FINISHED", copy.begun)

    def parent_of(self, record: RunRecord) -> str:
        """Find or make the parent run of this record's pipeline."""
        owner = find_pipeline(record.pipeline)
        noted = owner.published.parent_id if owner is not None else None
        parent = record.published.parent_id or noted
        if parent is None:
            tags = {"uvlm.pipeline_run": owner.key} if owner is not None else {}
            query = {name.replace(".", "__"): value for name, value in tags.items()}
            query |= {"uvlm__pipeline": record.pipeline, "uvlm__kind": "pipeline"}
            found = self.find(record.profile, **query)
            parent = found.info.run_id if found else self._parent(owner or record, tags)
        record.published.parent_id = parent
        if owner is not None and owner.published.parent_id != parent and noted is None:
            owner.published.parent_id = parent
            owner.save()
        return parent

    def is_lost(self, run_id: str) -> bool:
        """Whether MLflow knows no such run."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return True
        return False

    def _settle(self, record: RunRecord, parent: str) -> None:
        """Let a parent follow its stages; of an arm's parent, its sweep says how it ended."""
        run = find_pipeline(record.pipeline)
        if run is not None and run.published.parent_id == parent:
            self._close(run, parent)
        elif ARM not in self.client.get_run(parent).data.tags:
            self.set_status(parent, *self._outcome(record, parent, (), is_alive=False))

    def _close(self, run: PipelineRun, parent: str) -> None:
        is_alive = run.is_alive and run.pid != os.getpid()
        status, ended = self._outcome(run, parent, run.goals, is_alive=is_alive)
        self.set_status(parent, status, ended)
        run.status, run.ended = status, ended if status != "RUNNING" else None
        run.published.status = status
        run.save()

    def _outcome(
        self, record: RunRecord, parent: str, goals: tuple[str, ...], *, is_alive: bool
    ) -> tuple[Status, float]:
        """Say how a parent stands, and when its last stage ended."""
        stages, ended = self._stages(record.profile, parent)
        return status_of(stages, goals, is_alive), ended or record.started

    def _stages(self, profile: str, parent: str) -> tuple[dict[str, Status], float | None]:
        """Read how the stages of a parent stand, and when the last one ended."""
        children = self.children(profile, parent)
        ends = [run.info.end_time / 1000 for run in children if run.info.end_time]
        stages = {run.data.tags.get("dvc.stage", ""): run.info.status for run in children}
        return stages, max(ends, default=None)

    def _forget_lost(self, record: RunRecord) -> None:
        """Publish anew what a deleted or exchanged database no longer holds."""
        owner = find_pipeline(record.pipeline)
        for each in filter(None, (owner, record)):
            ids = filter(None, (each.published.run_id, each.published.parent_id))
            if any(map(self.is_lost, ids)):
                each.published = Published()
                each.save()

    def _parent(self, record: RunRecord, tags: dict[str, str]) -> str:
        judged = {name: tag for name, tag in record.tags.items() if name.startswith("git.")}
        parent = self.create(record, "pipeline", record.pipeline, judged | tags)
        self.log_params(parent, record.parent_params)
        return parent

    def _child(self, parent: str, record: RunRecord) -> str:
        """Find the run of a stage that a dead process made and did not note, or make one."""
        begun = f"{record.begun or record.started:.3f}"
        named = {"mlflow__parentRunId": parent, "dvc__stage": record.stage, "uvlm__begun": begun}
        found = self.find(record.profile, **named)
        tags = {name.replace("__", "."): value for name, value in named.items()}
        tags["uvlm.fingerprint"] = record.fingerprint
        run_id = found.info.run_id if found else self.create(record, "stage", record.stage, tags)
        self.log_params(run_id, record.params)
        record.published = Published(run_id=run_id, parent_id=parent)
        return str(run_id)

    def _new_history(self, run_id: str, record: RunRecord) -> None:
        lines = list(read_history(record.history))
        known = record.published.lines
        self.log_points(run_id, new_points(lines, known, record.started))
        for line in lines[known:]:
            self.tag(run_id, {k: str(v) for k, v in line.get("tags", {}).items()})
            self.log_params(run_id, {k: str(v) for k, v in line.get("params", {}).items()})
        record.published.lines = len(lines)


def _is_ours(run: Run) -> bool:
    """Whether a run is of this machine, as far as it says; on a server it has to say so."""
    host = run.data.tags.get("uvlm.host", socket.gethostname() if is_local() else "")
    return bool(host == socket.gethostname())
