"""What a stage pays to be shown in an MLflow that holds 500 runs and 10,000 points already."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.runs.mlflow_publish import MlflowStore
from pipeline.runs.records import RunRecord

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
    ),
]
RUNS, POINTS = 500, 10_000


def fill(database: Path, experiment: str, like: str) -> None:
    """Copy one run 500 times, with its tags, and give each a curve of 20 points."""
    with closing(sqlite3.connect(database)) as connection, connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(runs)")]
        others = ", ".join(name for name in columns if name != "run_uuid")
        for number in range(RUNS):
            run_id = f"{number:032x}"
            connection.execute(
                f"INSERT INTO runs (run_uuid, {others}) "
                f"SELECT '{run_id}', {others} FROM runs WHERE run_uuid = '{like}'"
            )
            connection.execute(
                f"INSERT INTO tags (key, value, run_uuid) SELECT key, value, '{run_id}' "
                f"FROM tags WHERE run_uuid = '{like}'"
            )
            points = [("loss", 0.5, t, run_id, t, 0) for t in range(POINTS // RUNS)]
            connection.executemany(
                'INSERT INTO metrics ("key", value, timestamp, run_uuid, step, is_nan) '
                "VALUES (?, ?, ?, ?, ?, ?)", points,
            )  # fmt: skip


def record_of(name: str, points: int) -> RunRecord:
    record = RunRecord(
        stage="train", fingerprint=name, pipeline=name, profile="phantom", begun=9e8, started=9e8,
        params={f"p{n}": "1" for n in range(40)}, parent_params={f"q{n}": "1" for n in range(150)},
        status="FINISHED", ended=9e8 + 60,
    )  # fmt: skip
    record.folder.mkdir(parents=True)
    lines = [
        json.dumps({"step": n, "metrics": {f"m{k}": n + k for k in range(5)}, "time": 9e8 + n})
        for n in range(points // 5)
    ]
    record.history.write_text("\n".join(lines))
    return record


def cpu_of(store: MlflowStore, record: RunRecord) -> float:
    start = time.process_time()
    store.publish(record)
    return time.process_time() - start


def test_half_a_second_and_a_millisecond_for_each_point(workspace: Path) -> None:
    with MlflowStore.open() as store:
        store.publish(record_of("first", 10))
        experiment = store.experiment("phantom")
        run = store.client.search_runs([experiment], "tags.`dvc.stage` = 'train'")[0]
        fill(workspace / "mlflow.db", experiment, run.info.run_id)
        bare = min(cpu_of(store, record_of(f"bare{n}", 0)) for n in range(3))
        full = cpu_of(store, record_of("full", 2000))
    measured = f"a stage {bare:.3f} CPU s, a point {(full - bare) / 2000 * 1000:.3f} ms"
    sys.stderr.write(f"{measured}\n")
    assert bare <= 0.5, measured
    assert (full - bare) / 2000 <= 0.001, measured
