"""The parent of a real `dvc repro`: RUNNING from its first stage to its last, then as it ended."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.profiles import read_document, write_params
from pipeline.runs.mlflow_tracker import reap

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
    ),
]
CLOCK_S = 2.0  # how far the kernel is off when it says when a process began
SCRIPT = """
import os, signal, sqlite3, sys, time
from pathlib import Path
from pipeline.dvc_yaml import read_causes, read_declarations
from pipeline.runs.mlflow_tracker import MlflowTracker

name, root = sys.argv[1], Path.cwd()
query = "SELECT runs.status FROM runs JOIN tags USING (run_uuid) WHERE value = 'pipeline'"
with open("seen.txt", "a") as seen:
    for (status,) in sqlite3.connect("mlflow.db").execute(query):
        seen.write(f"before {name}: {status}\\n")
with MlflowTracker(read_causes(root, read_declarations(root)[name]), root, live=True) as tracking:
    tracking.log({"loss": 1.0}, 1)
    tracking._publish()
    if name == "summarize" and Path("kill.txt").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    Path(f"{name}.txt").write_text(name)
"""
DVC_YAML = """
stages:
  train:
    cmd: PYTHON script.py train
    params: [train_cls]
    outs: [train.txt]
  summarize:
    cmd: PYTHON script.py summarize
    params: [seed]
    deps: [train.txt]
    outs: [summarize.txt]
"""


@pytest.fixture
def repro(workspace: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A project of two stages, and the command that runs them."""
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    (workspace / "script.py").write_text(SCRIPT)
    (workspace / "dvc.yaml").write_text(DVC_YAML.replace("PYTHON", f"{sys.executable} -W ignore"))
    dvc = shutil.which("dvc", path=str(Path(sys.executable).parent))
    assert dvc is not None
    subprocess.run([dvc, "init", "--no-scm", "-q"], check=True)
    return [dvc, "repro"]


def parents(workspace: Path) -> list[tuple[str, float, float]]:
    query = (
        "SELECT runs.status, start_time, end_time FROM runs JOIN tags USING (run_uuid) "
        "WHERE value = 'pipeline' ORDER BY start_time"
    )
    with closing(sqlite3.connect(workspace / "mlflow.db")) as connection:
        rows = connection.execute(query).fetchall()
    return [(status, start / 1000, (end or 0) / 1000) for status, start, end in rows]


def test_from_the_first_stage_to_the_last_and_a_killed_one_goes_on(
    workspace: Path, repro: list[str]
) -> None:
    (workspace / "kill.txt").touch()
    began = time.time()
    assert subprocess.run(repro, check=False, capture_output=True).returncode != 0
    assert (workspace / "seen.txt").read_text() == "before summarize: RUNNING\n"
    reap()
    ((status, start, end),) = parents(workspace)
    assert status == "KILLED"
    assert began - CLOCK_S <= start <= end <= time.time()
    (workspace / "kill.txt").unlink()
    subprocess.run(repro, check=True, capture_output=True)  # continues the same run
    assert [status for status, _, _ in parents(workspace)] == ["FINISHED"]


def test_other_parameters_are_another_run_that_takes_only_its_own_time(
    workspace: Path, repro: list[str]
) -> None:
    subprocess.run(repro, check=True, capture_output=True)
    document = read_document(workspace / "params.yaml")
    document["seed"] += 1
    write_params(workspace, document)
    between = time.time()
    subprocess.run(repro, check=True, capture_output=True)  # only `summarize` runs
    (first, second) = parents(workspace)
    assert [first[0], second[0]] == ["FINISHED", "FINISHED"]
    assert second[1] >= between - CLOCK_S
