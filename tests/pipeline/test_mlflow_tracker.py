from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.dvc_yaml import read_causes, read_declarations
from pipeline.profiles import read_document, write_params
from pipeline.runs.mlflow_publish import MlflowStore
from pipeline.runs.mlflow_tracker import MlflowTracker, publish_pending, reap
from pipeline.runs.numbers import numbers_of
from pipeline.runs.publish_run import publish_run
from pipeline.runs.records import read_records
from uvlm.errors import DataError

pytestmark = pytest.mark.filterwarnings(
    # MLflow and its SQLAlchemy models warn about their own and each other's interfaces.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::ResourceWarning",
)

Start = Callable[[str], subprocess.Popen[str]]


def tracker(workspace: Path, stage: str = "train", live: bool = True) -> MlflowTracker:
    causes = read_causes(workspace, read_declarations(workspace)[stage])
    return MlflowTracker(causes, workspace, live)


@pytest.fixture
def runs(workspace: Path) -> Callable[[], dict[str, Any]]:
    """All runs of the store as they are now, the parent under `parent`, children by stage."""

    def read() -> dict[str, Any]:
        with MlflowStore.open() as store:
            experiments = [e.experiment_id for e in store.client.search_experiments()]
            found = store.client.search_runs(experiments)
        names = [run.data.tags.get("dvc.stage", "parent") for run in found]
        assert len(names) == len(set(names)), names
        return dict(zip(names, found, strict=True))

    return read


@pytest.mark.slow
def test_a_finished_stage_is_a_finished_child_of_a_finished_parent(
    workspace: Path, runs: Callable[[], dict[str, Any]]
) -> None:
    with tracker(workspace) as tracking:
        tracking.log({"loss": 2.0}, 1)
        tracking.log({"loss": 1.0, "val/dice": 0.5}, 2)
        tracking.params({"num_visual_tokens": 384})
        tracking.tags({"device": "cpu"})
        tracking.artifact(workspace / "input.txt")
    child = runs()["train"]
    parent = runs()["parent"]
    assert child.info.status == parent.info.status == "FINISHED"
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.metrics == {"loss": 1.0, "val/dice": 0.5}
    assert child.data.params["num_visual_tokens"] == "384"
    assert child.data.params["train_cls.steps"] == "2"
    assert not any(key.startswith("train_seg") for key in child.data.params)
    assert parent.data.params["train_seg.steps"] == "2"
    assert child.data.tags["device"] == "cpu"
    assert child.data.tags["git.commit"] == "none"
    assert (workspace / "mlruns").is_dir()
    assert [p.name for p in (workspace / "mlruns").rglob("input.txt")] == ["input.txt"]


def test_an_exception_leaves_the_child_failed_at_once_even_for_a_short_stage(
    workspace: Path, runs: Callable[[], dict[str, Any]]
) -> None:
    with pytest.raises(DataError), tracker(workspace, "first", live=False):
        raise DataError("train_1_a_1", "is empty")
    assert runs()["first"].info.status == "FAILED"
    assert runs()["parent"].info.status == "FAILED"


def test_a_short_stage_waits_on_disk_until_the_next_one_publishes(
    workspace: Path, runs: Callable[[], dict[str, Any]]
) -> None:
    with tracker(workspace, "first", live=False) as tracking:
        tracking.log({"kept": 3}, 0)
    assert runs() == {}
    publish_pending()
    publish_pending()
    assert runs()["first"].info.status == "FINISHED"
    assert runs()["first"].data.metrics == {"kept": 3.0}


@pytest.mark.slow
def test_sigterm_leaves_the_child_killed_and_exits_with_5(
    start_stage: Start, runs: Callable[[], dict[str, Any]]
) -> None:
    process = start_stage("time.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert runs()["train"].info.status == "RUNNING"
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "SIGTERM" in stderr
    assert len(stderr.strip().splitlines()) == 1
    assert runs()["train"].info.status == "KILLED"


@pytest.mark.slow
def test_kill_9_is_found_by_the_next_command(
    start_stage: Start, runs: Callable[[], dict[str, Any]]
) -> None:
    process = start_stage("time.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert reap() == []
    process.kill()
    process.communicate(timeout=60)
    assert runs()["train"].info.status == "RUNNING"
    assert [record.stage for record in reap()] == ["train"]
    assert runs()["train"].info.status == runs()["parent"].info.status == "KILLED"


@pytest.mark.slow
def test_a_bug_exits_with_70_and_leaves_the_child_failed(
    start_stage: Start, runs: Callable[[], dict[str, Any]]
) -> None:
    process = start_stage("raise ZeroDivisionError('no')")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 70
    assert "ZeroDivisionError" in stderr
    assert runs()["train"].info.status == "FAILED"


@pytest.mark.slow
def test_a_restarted_stage_continues_its_own_child(
    workspace: Path, runs: Callable[[], dict[str, Any]]
) -> None:
    tracking = tracker(workspace).__enter__()
    tracking.log({"loss": 3.0}, 1)
    tracking.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    first = runs()["train"]
    assert first.info.status == "KILLED"
    with tracker(workspace) as tracking:
        tracking.log({"loss": 1.0}, 2)
        tracking.write_csv(workspace / "history.csv")
    again = runs()["train"]
    assert again.info.run_id == first.info.run_id
    assert again.info.status == "FINISHED"
    assert again.data.tags["uvlm.resumed"] == "1"
    assert (workspace / "history.csv").read_text() == "step,loss\n1,3\n2,1\n"


@pytest.mark.slow
def test_a_changed_parameter_begins_another_run(workspace: Path) -> None:
    with tracker(workspace):
        pass
    document = read_document(workspace / "params.yaml")
    document["train_cls"]["steps"] = 3
    write_params(workspace, document)
    with tracker(workspace):
        pass
    before, after = read_records()
    assert before.fingerprint != after.fingerprint
    assert before.pipeline != after.pipeline


def test_an_outage_is_one_line_and_stops_nothing(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/mlflow.db")
    with tracker(workspace) as tracking:
        tracking.log({"loss": 1.0}, 1)
    assert "MLflow is out of reach" in capsys.readouterr().err
    (record,) = read_records()
    assert record.status == "FINISHED"
    assert record.is_pending


def test_what_an_outage_kept_back_is_published_later(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, runs: Callable[[], dict[str, Any]]
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/mlflow.db")
        with tracker(workspace) as tracking:
            tracking.log({"loss": 1.0}, 1)
    publish_pending()
    assert runs()["train"].info.status == "FINISHED"
    assert runs()["train"].data.metrics == {"loss": 1.0}


@pytest.mark.slow
def test_a_cached_stage_is_linked_to_the_run_that_made_its_outputs(workspace: Path) -> None:
    with tracker(workspace) as tracking:
        tracking.log({"loss": 0.25}, 7)
    (made,) = read_records()
    document = read_document(workspace / "params.yaml")
    document["seed"] = 1
    write_params(workspace, document)
    with tracker(workspace, "first") as tracking:
        publish_run(tracking.record, workspace, {"report": {"macro_f1": 0.7}}, [])
        publish_run(tracking.record, workspace, {"report": {"macro_f1": 0.7}}, [])
    with MlflowStore.open() as store:
        parent = store.parent_of(tracking.record)
        experiment = store.experiment("phantom")
        query = f"tags.`mlflow.parentRunId` = '{parent}'"
        children = {r.info.run_name: r for r in store.client.search_runs([experiment], query)}
        numbers = store.client.get_run(parent).data.metrics
    assert set(children) == {"first", "train"}
    assert children["train"].data.tags["uvlm.cached_from"] == made.published.run_id
    assert children["train"].data.metrics == {"loss": 0.25}
    assert numbers == {"report.macro_f1": 0.7}


def test_metrics_become_dotted_numbers_and_intervals_two() -> None:
    metrics = {"n": 3, "seg": {"dice": 0.5, "dice_ci": [0.4, 0.6]}, "protocol": {"bleu": "x"}}
    assert numbers_of(metrics) == {
        "n": 3.0, "seg.dice": 0.5, "seg.dice_ci_low": 0.4, "seg.dice_ci_high": 0.6
    }  # fmt: skip
