"""The end of a pipeline run in MLflow: no holes, the numbers that runs are compared by, files.

Stages that came from the cache logged nothing. Each gets a child run linked to the run that made
its outputs, so that pipeline runs can be compared stage by stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.dvc_yaml import read_causes, read_declarations
from pipeline.runs.mlflow_calls import is_local
from pipeline.runs.mlflow_publish import MlflowStore
from pipeline.runs.mlflow_tracker import publish_pending, with_store
from pipeline.runs.numbers import headline_of, numbers_of
from pipeline.runs.provenance import new_record
from pipeline.runs.records import RunRecord, find_record
from pipeline.runs.views import RUNS, address_of, save_view


def publish_run(
    record: RunRecord, root: Path, metrics: Mapping[str, Any], artifacts: list[Path]
) -> str | None:
    """Complete the parent run of `record`, the record of the stage `summarize`.

    Args:
        record: of the running stage.
        root: the workspace.
        metrics: all numbers, of which the run shows a few.
        artifacts: files and folders to keep with the run, all numbers among them.

    Returns:
        Where `mlflow ui` shows it; None if MLflow is out of reach or has a server of its own.
    """
    addresses: list[str] = []
    publish_pending()
    others = _other_records(record, root)

    def complete(store: MlflowStore) -> None:
        parent = store.parent_of(record)
        for earlier in others:
            if earlier.published.parent_id != parent:  # not of this run: it came from the cache
                store.link(earlier, record)
        store.log_metrics(parent, headline_of(numbers_of(metrics)))
        for path in [root / "params.yaml", root / "dvc.yaml", root / "dvc.lock", *artifacts]:
            store.log_path(parent, path)
        experiment = store.experiment(record.profile)
        save_view(store.client, experiment, RUNS)
        addresses.append(address_of(experiment))

    return addresses[0] if with_store(complete) and is_local() else None


def _other_records(record: RunRecord, root: Path) -> list[RunRecord]:
    """Find what made the outputs of the other stages, in this run or in an earlier one."""
    others = []
    for name, declaration in read_declarations(root).items():
        if name != record.stage:
            current = new_record(root, read_causes(root, declaration))
            others.append(find_record(name, current.fingerprint) or current)
    return others
