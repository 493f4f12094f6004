"""Artifacts of MLflow lie in the project, wherever it lies, and nowhere else."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.runs.mlflow_place import keep_artifacts_in
from pipeline.runs.mlflow_publish import MlflowStore

pytestmark = pytest.mark.filterwarnings(
    # MLflow and its SQLAlchemy models warn about their own and each other's interfaces.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::ResourceWarning",
)


@pytest.fixture
def project(tmp_path: Path, empty_database: Path) -> Path:
    """A project whose name has all that an address must quote."""
    folder = tmp_path / "mein Projekt für CT #1 100%"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    return folder


def log(root: Path, text: str, patch: pytest.MonkeyPatch, run_id: str = "") -> str:
    """Log one file as the run of a project does; returns the id of the run."""
    patch.setenv("DVC_ROOT", str(root))
    note = root / f"{text}.txt"
    note.write_text(text)
    with MlflowStore.open() as store:
        experiment = store.experiment("phantom")
        run_id = run_id or store.client.create_run(experiment).info.run_id
        store.log_path(run_id, note)
    return run_id


_LIST = """
import json, sys
from mlflow.tracking import MlflowClient
client = MlflowClient(sys.argv[1])
runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
ids = [run.info.run_id for run in runs]
print(json.dumps({i: sorted(file.path for file in client.list_artifacts(i)) for i in ids}))
"""


def logged(root: Path) -> dict[str, list[str]]:
    """What another program finds in MLflow: the names of the files of every run."""
    command = [sys.executable, "-W", "ignore", "-c", _LIST, f"sqlite:///{root}/mlflow.db"]
    found = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True).stdout
    return dict(json.loads(found))


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


@pytest.mark.slow
def test_after_a_move_old_and_new_artifacts_are_found_and_the_old_folder_stays_away(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = log(project, "first", monkeypatch)
    moved = project.with_name("umbenannt ä")
    shutil.move(project, moved)
    second = log(moved, "second", monkeypatch)
    log(moved, "late", monkeypatch, first)  # an interrupted run goes on
    assert logged(moved) == {first: ["first.txt", "late.txt"], second: ["second.txt"]}
    assert not project.exists()
    assert len(list((moved / "mlruns").rglob("*.txt"))) == 3


@pytest.mark.slow
def test_a_copy_writes_nothing_into_its_original(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = log(project, "first", monkeypatch)
    before = files(project)
    copied = project.with_name("copy")
    shutil.copytree(project, copied)
    (copied / "first.txt").write_text("of the copy")
    monkeypatch.setenv("DVC_ROOT", str(copied))
    with MlflowStore.open() as store:
        store.log_path(run_id, copied / "first.txt")
    log(copied, "second", monkeypatch)
    assert files(project) == before
    (changed,) = (copied / "mlruns" / run_id).rglob("first.txt")
    assert changed.read_text() == "of the copy"
    assert logged(project) == {run_id: ["first.txt"]}


def addresses(root: Path) -> list[str]:
    with closing(sqlite3.connect(root / "mlflow.db")) as connection:
        query = "SELECT artifact_location FROM experiments UNION SELECT artifact_uri FROM runs"
        return sorted(str(row[0]) for row in connection.execute(query))


@pytest.mark.parametrize(
    "chosen",
    [
        "s3://bucket/mlruns",
        "mlflow-artifacts:/1",
        "file:///scratch/artifacts",
        "/scratch/artifacts",
    ],
)
def test_artifacts_that_were_put_elsewhere_on_purpose_stay_there(
    chosen: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(project))
    with MlflowStore.open() as store:
        experiment = store.client.create_experiment("uvlm-phantom", artifact_location=chosen)
        store.client.create_run(experiment)
    before = addresses(project)
    keep_artifacts_in(project)
    assert addresses(project) == before
    assert chosen in before


def test_plain_paths_and_a_folder_for_each_experiment_are_found_too(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(project))
    with MlflowStore.open() as store:
        for name, place in {
            "uvlm-chest": "/old/mlruns/7",
            "own": "/old/mlruns/8",
            "beside": "/old/mlruns2/9",
            "else": "/elsewhere/mlruns/9",
        }.items():
            store.client.create_experiment(name, artifact_location=place)
    keep_artifacts_in(project)
    here = project / "mlruns"
    assert set(addresses(project)) >= {
        f"{here}/7", f"{here}/8", "/old/mlruns2/9", "/elsewhere/mlruns/9"
    }  # fmt: skip


@pytest.mark.parametrize("content", [None, b""])
def test_without_a_database_there_is_nothing_to_do(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "mlflow.db").write_bytes(content)
    keep_artifacts_in(tmp_path)
    assert files(tmp_path) == ({} if content is None else {"mlflow.db": b""})


def test_a_tracking_server_of_the_user_is_left_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = log(project, "first", monkeypatch)
    moved = project.with_name("moved")
    shutil.copytree(project, moved)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{moved}/mlflow.db")
    before = addresses(moved)
    with MlflowStore.open() as store:
        assert store.client.get_run(run_id).info.artifact_uri in before
    assert addresses(moved) == before
