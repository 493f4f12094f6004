"""The views of tables that MLflow's page opens, against MLflow itself and what our stages log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from pipeline.runs.arm_runs import ARM, ArmRun
from pipeline.runs.mlflow_publish import MlflowStore
from pipeline.runs.numbers import numbers_of
from pipeline.runs.views import columns_of, filter_of

ROOT = Path(__file__).parents[2]


def arm_of(table: str, name: str, key: str) -> ArmRun:
    tags = {ARM: name, "uvlm.table": table, "uvlm.row": "1", "uvlm.seed": "0"}
    return ArmRun(stage=name, fingerprint=key, pipeline=key, profile="phantom", tags=tags)


def client_of(workspace: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")


def experiment_of(workspace: Path) -> Any:
    return client_of(workspace).get_experiment_by_name("uvlm-phantom")


def views(workspace: Path) -> dict[str, Any]:
    """Read every view as MLflow's page does: by the beginning of its tag's name."""
    tags = experiment_of(workspace).tags
    start = "mlflow.sharedViewState."
    return {k.removeprefix(start): json.loads(v) for k, v in tags.items() if k.startswith(start)}


def test_every_table_of_a_sweep_has_a_view_that_finds_its_arms_alone(workspace: Path) -> None:
    arms = [arm_of("table4", "table4_02", "a"), arm_of("table5", "table5_09", "b")]
    with MlflowStore.open() as store:
        for arm in arms:
            store.publish_arm(arm)
    found = views(workspace)
    assert found.keys() == {"uvlm-table4", "uvlm-table5"}
    client = client_of(workspace)
    experiment = experiment_of(workspace).experiment_id
    for table, name in (("table4", "table4_02"), ("table5", "table5_09")):
        view = found[f"uvlm-{table}"]
        state = json.loads(view["state"])
        assert (view["name"], type(view["createdAt"])) == (table, int)
        assert state["searchFilter"] == filter_of(table) == view["searchFilter"]
        (run,) = client.search_runs([experiment], state["searchFilter"], order_by=[
            f"{state['orderByKey']} {'ASC' if state['orderByAsc'] else 'DESC'}"])  # fmt: skip
        assert run.data.tags["uvlm.arm"] == name


def test_a_view_that_a_person_has_changed_stays(workspace: Path) -> None:
    with MlflowStore.open() as store:
        store.publish_arm(arm_of("table4", "table4_02", "a"))
        experiment = store.experiment("phantom")
        name = "mlflow.sharedViewState.uvlm-table4"
        store.client.set_experiment_tag(experiment, name, '{"name": "ours"}')
        store.publish_arm(arm_of("table4", "table4_03", "b"))
    assert views(workspace) == {"uvlm-table4": {"name": "ours"}}


@pytest.mark.parametrize(
    "table", ["runs", "table2", "table3", "table4", "table5", "choices", "mini"]
)
def test_columns_are_numbers_that_a_record_has(table: str) -> None:
    metrics = json.loads((ROOT / "reports" / "metrics.json").read_text())
    logged = numbers_of(metrics)
    columns = [c for c in columns_of(table) if c.startswith("metrics.")]
    assert len(columns) >= 6
    assert {c.removeprefix("metrics.`").removesuffix("`") for c in columns} <= logged.keys()
    assert len(json.dumps(columns_of(table))) < 2000  # MLflow allows a tag of 5,000


def test_mlflow_still_keeps_views_in_this_way() -> None:
    """Its page is the only place that defines the format."""
    package = Path(mlflow.__file__).parent
    pages = package.glob("server/js/build/static/js/main.*.js")
    main = "".join(path.read_text() for path in pages)
    for word in ("mlflow.sharedViewState.", "viewStateShareKey", "selectedColumns"):
        assert word in main
