"""The end of a pipeline run in MLflow: no holes, final numbers, files.

Stages that came from the cache logged nothing. Each gets a child run linked to the run that made
its outputs, so that pipeline runs can be compared stage by stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.dvc_yaml import read_causes, read_declarations
from pipeline.profiles import flatten
from pipeline.runs.mlflow_publish import MlflowStore
from pipeline.runs.mlflow_tracker import publish_pending, with_store
from pipeline.runs.provenance import new_record
from pipeline.runs.records import RunRecord, find_record


def publish_run(
    record: RunRecord, root: Path, metrics: Mapping[str, Any], artifacts: list[Path]
) -> None:
    """Complete the parent run of `record`, the record of the stage `summarize`."""
    publish_pending()
    cached = _cached_records(record, root)

    def complete(store: MlflowStore) -> None:
        for earlier in cached:
            store.link(earlier, record.pipeline)
        parent = store.parent_of(record)
        store.log_metrics(parent, numbers_of(metrics))
        for path in [root / "params.yaml", root / "dvc.yaml", root / "dvc.lock", *artifacts]:
            store.log_path(parent, path)

    with_store(complete)


def numbers_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Keep the numbers of nested metrics under dotted names; an interval becomes two numbers."""
    numbers: dict[str, float] = {}
    for name, value in flatten(dict(metrics)).items():
        if isinstance(value, int | float):
            numbers[name] = float(value)
        elif name.endswith("_ci") and value:
            numbers[f"{name}_low"], numbers[f"{name}_high"] = map(float, value)
    return numbers


def _cached_records(record: RunRecord, root: Path) -> list[RunRecord]:
    """Find what made the outputs of the stages that this pipeline run did not run."""
    cached = []
    for name, declaration in read_declarations(root).items():
        current = new_record(root, read_causes(root, declaration))
        earlier = find_record(name, current.fingerprint)
        if name != record.stage and (earlier is None or earlier.pipeline != record.pipeline):
            cached.append(earlier or current)
    return cached
