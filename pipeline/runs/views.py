"""The saved view of a table in MLflow's page: its filter, its columns and their order.

MLflow keeps a view as a tag of the experiment, `mlflow.sharedViewState.<key>`, and opens it at
`#/experiments/<id>/runs?viewStateShareKey=<key>`. Its page lists the views that have a name. One
that a person has changed there is left as it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from pipeline.runs.numbers import CLASSIFIER, MASKS, REPORT

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

TABLE: Final = "uvlm.table"  # the tag of an arm that says which table it is of
_KEY: Final = "mlflow.sharedViewState."
_OF_ALL: Final = ("attributes.`Created`", "attributes.`Duration`", "tags.`uvlm.row`",
                  "tags.`uvlm.arm`", "tags.`uvlm.seed`")  # fmt: skip
_METRICS: Final = {
    "table3": (*MASKS[1:], *REPORT),
    "table4": CLASSIFIER,
}
# By itself this opens the table of runs in MLflow before 3.17; its page now remembers what each
# browser chose, and an address can say it.
KIND: Final = ("mlflow.experimentKind", "custom_model_development")
_PAGE: Final = "http://127.0.0.1:5000/#/experiments"
RUNS: Final = "runs"  # the view of all pipeline runs
_AT_A_GLANCE: Final = ("cls.macro_auroc", "report.bleu_mean", "report.crg", "report.macro_f1",
                       "seg.dice", "seg.lesion_dice")  # fmt: skip


def address_of(experiment: str) -> str:
    """Say where `mlflow ui` shows the runs of an experiment."""
    view = f"viewStateShareKey=uvlm-{RUNS}"
    return f"{_PAGE}/{experiment}/runs?{view}&workflowType=machine_learning"


def filter_of(table: str) -> str:
    """Write what MLflow's search has to hold to show the arms of a table, a run for each seed."""
    of_table = "" if table == RUNS else f" and tags.`{TABLE}` = '{table}'"
    return f"tags.`uvlm.kind` = 'pipeline'{of_table}"


def columns_of(table: str) -> list[str]:
    """Name the columns of a table, as MLflow's page does."""
    if table == RUNS:
        return [*_OF_ALL[:2], *(f"metrics.`{name}`" for name in _AT_A_GLANCE)]
    metrics = _METRICS.get(table, (*REPORT, *CLASSIFIER[:1]))
    return [*_OF_ALL, *(f"metrics.`{name}`" for name in metrics)]


def save_view(client: MlflowClient, experiment: str, table: str) -> None:
    """Give an experiment the view of a table, unless it has one."""
    name, kept = f"{_KEY}uvlm-{table}", client.get_experiment(experiment).tags
    if name not in kept:
        client.set_experiment_tag(experiment, name, _written(table, columns_of(table)))


def _written(table: str, columns: Iterable[str]) -> str:
    """Write a view as MLflow does: named, with its state as text; before, the state was all."""
    state: dict[str, Any] = {
        "searchFilter": filter_of(table),
        "orderByKey": "attributes.start_time" if table == RUNS else "tags.`uvlm.arm`",
        "orderByAsc": table != RUNS,
        "selectedColumns": list(columns),
    }
    now = int(time.time() * 1000)
    named = {"name": table, "createdAt": now, "updatedAt": now, "state": json.dumps(state)}
    return json.dumps(named | state)
