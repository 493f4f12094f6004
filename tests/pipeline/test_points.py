"""Curves in MLflow hold each point once, whatever was stopped, sent twice or sent late."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runs.mlflow_publish import MlflowStore
from pipeline.runs.points import new_points
from pipeline.runs.records import RunRecord

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)
LINES = st.lists(
    st.fixed_dictionaries(
        {
            "step": st.integers(1, 5),
            "metrics": st.dictionaries(st.sampled_from("ab"), st.floats(0, 1), min_size=1),
            "seconds": st.floats(0, 9),
        }
    ),
    max_size=12,
)


@given(lines=LINES, cuts=st.lists(st.integers(0, 12), max_size=4))
def test_sent_in_parts_or_at_once_every_step_has_its_first_value(
    lines: list[dict[str, object]], cuts: list[int]
) -> None:
    expected = dict[tuple[object, str], object]()
    for line in lines:
        for name, value in dict(line["metrics"]).items():  # type: ignore[call-overload]
            expected.setdefault((line["step"], name), value)
    ends = sorted({min(cut, len(lines)) for cut in cuts} | {len(lines)})
    sent = []
    for begin, end in zip([0, *ends], ends, strict=False):
        sent += list(new_points(lines[:end], begin, 0.0))
    assert len(sent) == len(expected)
    assert {(point.step, point.name): point.value for point in sent} == expected


def write_history(record: RunRecord, steps: range) -> None:
    record.folder.mkdir(parents=True, exist_ok=True)
    with record.history.open("a") as file:
        for step in steps:
            line = {"step": step, "metrics": {"loss": 1 / step}, "seconds": 1.0, "time": 9e8 + step}
            file.write(json.dumps(line) + "\n")


def stored(workspace: Path) -> list[tuple[int, float]]:
    with closing(sqlite3.connect(workspace / "mlflow.db")) as connection:
        return sorted(connection.execute("SELECT step, value FROM metrics WHERE key = 'loss'"))


def test_what_a_killed_process_had_sent_without_noting_it_is_not_doubled(workspace: Path) -> None:
    record = RunRecord(
        stage="train", fingerprint="f", pipeline="p", profile="phantom", started=9e8, begun=9e8
    )
    write_history(record, range(1, 6))
    with MlflowStore.open() as store:
        store.publish(record)
        record.published.lines = 2  # as if it died before it noted the last three
        record.published.run_id = None  # and before it noted the run
        record.started = 9e8 + 50  # continued later, from some steps back
        record.save()
        write_history(record, range(3, 9))
        store.publish(record)
    assert stored(workspace) == [(step, 1 / step) for step in range(1, 9)]
    with closing(sqlite3.connect(workspace / "mlflow.db")) as connection:
        (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
    assert runs == 2  # the stage and its parent
