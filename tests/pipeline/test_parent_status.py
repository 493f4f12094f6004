"""A pipeline run stands as its stages stand, in whatever order MLflow hears of them."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import permutations, product
from pathlib import Path
from typing import Any, get_args

import pytest

from pipeline.runs import pipeline_runs
from pipeline.runs.mlflow_publish import MlflowStore
from pipeline.runs.mlflow_tracker import publish_pending, reap
from pipeline.runs.outcome import status_of
from pipeline.runs.pipeline_runs import PipelineRun, find_pipeline, is_dvc
from pipeline.runs.records import RunRecord, Status, process_start

pytestmark = pytest.mark.filterwarnings(
    # MLflow and its SQLAlchemy models warn about their own and each other's interfaces.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::ResourceWarning",
)
NOW = time.time()
STATUSES: tuple[Status, ...] = get_args(Status)


@pytest.mark.parametrize("is_alive", [False, True])
def test_every_combination_of_three_stages(is_alive: bool) -> None:
    for stages in product(STATUSES, repeat=3):
        found = status_of(dict(zip("abc", stages, strict=True)), ["c"], is_alive)
        worst = sorted(stages, key=["RUNNING", "FAILED", "KILLED", "FINISHED"].index)[0]
        assert found == worst


def test_between_two_stages_a_run_is_running_while_its_command_lives() -> None:
    assert status_of({"a": "FINISHED"}, ["c"], is_alive=True) == "RUNNING"
    assert status_of({"a": "FINISHED"}, ["c"], is_alive=False) == "FINISHED"
    assert status_of({"a": "FINISHED"}, ["a"], is_alive=True) == "FINISHED"


def record_of(stage: str, number: int, status: Status, pipeline: str) -> RunRecord:
    began = NOW - 100.0 + number
    return RunRecord(
        stage=stage, fingerprint=f"{pipeline}-{stage}", pipeline=pipeline, profile="phantom",
        started=began, begun=began, status=status, ended=began + 0.5,
    )  # fmt: skip


def parents(workspace: Path) -> dict[str, Any]:
    with MlflowStore.open() as store:
        found = store.client.search_runs(
            [store.experiment("phantom")], "tags.`uvlm.kind` = 'pipeline'"
        )
    return {run.data.tags["uvlm.pipeline"]: run for run in found}


@pytest.mark.slow
@pytest.mark.parametrize(
    "statuses",
    [("FINISHED", "FINISHED", "KILLED"), ("FINISHED", "FAILED", "KILLED"), ("FINISHED",) * 3],
)
def test_the_order_in_which_stages_are_published_changes_nothing(
    statuses: tuple[Status, ...], workspace: Path
) -> None:
    worst = sorted(statuses, key=["FAILED", "KILLED", "FINISHED"].index)[0]
    with MlflowStore.open() as store:
        for number, order in enumerate(permutations(range(3))):
            for stage in order:
                record = record_of("abc"[stage], stage, statuses[stage], f"p{number}")
                record.save()
                store.publish(record)
    found = parents(workspace)
    assert [run.info.status for run in found.values()] == [worst] * 6
    for run in found.values():
        last = max(run.info.end_time, run.info.start_time)
        assert last - run.info.start_time <= 3000  # as long as its stages, not until it was told


@pytest.mark.slow
def test_a_stage_that_is_killed_and_continued_ends_well(workspace: Path) -> None:
    with MlflowStore.open() as store:
        record = record_of("a", 0, "KILLED", "p")
        store.publish(record)
        assert parents_status(store) == ["KILLED"]
        record.status = "RUNNING"
        store.publish(record)
        assert parents_status(store) == ["RUNNING"]
        record.status = "FINISHED"
        store.publish(record)
        assert parents_status(store) == ["FINISHED"]


def parents_status(store: MlflowStore) -> list[str]:
    query = "tags.`uvlm.kind` = 'pipeline'"
    found = store.client.search_runs([store.experiment("phantom")], query)
    return [str(run.info.status) for run in found]


def pipeline_of(pid: int, record: RunRecord) -> PipelineRun:
    run = PipelineRun(
        stage=record.pipeline, fingerprint=record.pipeline, pipeline=record.pipeline,
        profile=record.profile, pid=pid, pid_started=process_start(pid), by_dvc=True,
        begun=record.started, started=record.started,
    )  # fmt: skip
    run.save()
    return run


def test_a_run_is_running_until_its_command_is_gone(workspace: Path) -> None:
    command = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        record = record_of("a", 0, "FINISHED", "p")
        record.save()
        pipeline_of(command.pid, record)
        publish_pending()
        assert parents(workspace)["p"].info.status == "RUNNING"
        assert reap() == []
        assert parents(workspace)["p"].info.status == "RUNNING"
    finally:
        command.communicate(b"\n")
    reap()
    run = parents(workspace)["p"]
    assert run.info.status == "FINISHED"
    assert run.info.end_time == int((record.ended or 0) * 1000)


def test_a_run_that_nobody_has_a_record_of_is_ended(workspace: Path) -> None:
    with MlflowStore.open() as store:
        experiment = store.experiment("phantom")
        tags = {"uvlm.kind": "pipeline", "uvlm.pipeline": "ghost"}
        parent = store.client.create_run(experiment, tags=tags).info.run_id
        tags = {"uvlm.kind": "stage", "dvc.stage": "a", "mlflow.parentRunId": parent}
        store.client.create_run(experiment, tags=tags)
        elsewhere = {"uvlm.kind": "stage", "dvc.stage": "b", "uvlm.host": "another-machine"}
        other = store.client.create_run(experiment, tags=elsewhere).info.run_id
    reap()
    with MlflowStore.open() as store:
        runs = {r.info.run_id: r.info.status for r in store.client.search_runs([experiment])}
    assert runs.pop(other) == "RUNNING"
    assert set(runs.values()) == {"KILLED"}


def test_a_finished_run_that_is_run_again_is_another_run(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = record_of("a", 0, "FINISHED", "p")
    first = pipeline_of(1, record)
    first.status = "FINISHED"
    first.save()
    monkeypatch.setattr(pipeline_runs, "_dvc_command", lambda: (2, ["python", "dvc", "repro"]))
    pipeline_runs.begin(record, workspace)
    second = find_pipeline("p")
    assert second is not None
    assert second.key != first.key
    second.status = "KILLED"
    second.save()
    pipeline_runs.begin(record, workspace)
    third = find_pipeline("p")
    assert third is not None
    assert third.key == second.key  # it was stopped, and goes on


@pytest.mark.parametrize(
    ("command", "is_one"),
    [
        (["/usr/bin/python3", "/venv/bin/dvc", "repro"], True),
        (["python", "-m", "dvc", "repro"], True),
        (["/opt/dvc", "exp", "run"], True),
        (["bash", "-c", "dvc repro"], False),
        (["vim", "notes", "dvc"], False),
    ],
)
def test_commands_of_dvc_are_recognised(command: list[str], is_one: bool) -> None:
    assert is_dvc(command) == is_one
