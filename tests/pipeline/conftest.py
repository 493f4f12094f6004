"""A workspace with two small stages, and a tracking store that is migrated only once."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.profiles import write_params
from pipeline.rehearse import rehearse
from pipeline.rehearse.watch import Watched, watch
from pipeline.smoke import smoke
from uvlm.config import PhantomConfig
from uvlm.data.sets.phantom.dataset import Phantoms
from uvlm.files import store_root
from uvlm.store import rows_by_case

DVC_YAML = """
stages:
  first:
    cmd: "true"
    deps: [input.txt]
    params: [seed, tokenizer]
    outs: [first.txt]
  train:
    cmd: "true"
    deps: [first.txt]
    params: [train_cls]
    outs: [train.txt]
"""


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs; making one takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    code = (
        "import sys; from mlflow.tracking import MlflowClient; "
        "MlflowClient(f'sqlite:///{sys.argv[1]}').search_experiments()"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True)
    return path


@pytest.fixture(scope="session")
def mlflow_away(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that, on PYTHONPATH, keeps processes from importing MLflow.

    To a stage that is an outage, which it survives; and it is done four seconds earlier. For whole
    pipelines that are not asked what MLflow has of them: of others, test_tiny_run asks.
    """
    folder = tmp_path_factory.mktemp("away")
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['mlflow'] = None\n")
    return folder


@pytest.fixture
def watched_without_mlflow(mlflow_away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for the pipelines of `uvlm rehearse` and `uvlm smoke`, which set PYTHONPATH."""

    def watch_without(command: Sequence[str], cwd: Path, environment: dict[str, str]) -> Watched:
        path = f"{mlflow_away}{os.pathsep}{environment['PYTHONPATH']}"
        return watch(command, cwd, environment | {"PYTHONPATH": path})

    for module in (rehearse, smoke):
        monkeypatch.setattr(module, "watch", watch_without)


@pytest.fixture
def workspace(
    tmp_path: Path,
    empty_database: Path,
    tiny_document: dict[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A project folder with params.yaml, two stages and an empty tracking store; the cwd."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    write_params(tmp_path, tiny_document)
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "input.txt").write_text("input")
    (tmp_path / "first.txt").write_text("first")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def start_stage(workspace: Path, root: Path) -> Callable[[str], subprocess.Popen[str]]:
    """Start a stage `train` with this body in a process of its own; it prints `ready` first."""

    def start(body: str) -> subprocess.Popen[str]:
        script = workspace / "script.py"
        script.write_text(
            "import sys, time\n"
            f"sys.path.insert(0, {str(root)!r})\n"
            "from pipeline.stage import run_stage\n"
            "def work(stage):\n"
            "    stage.tracker.log({'loss': 2.0}, 1)\n"
            "    stage.tracker._publish()\n"
            "    print('ready', flush=True)\n"
            + textwrap.indent(textwrap.dedent(body), "    ")
            + "\nrun_stage('train', work, live=True)\n"
        )
        return subprocess.Popen(
            [sys.executable, str(script)],
            cwd=workspace,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def few_patients(train: int) -> PhantomConfig:
    """Phantoms of one small CT each, without defects; four patients to test on."""
    return PhantomConfig(
        train_patients=train,
        test_patients=4,
        shape=(20, 28, 28),
        prevalence=0.3,
        second_scan_fraction=0.0,
        second_reconstruction_fraction=0.0,
        noise_hu=20.0,
        defects=False,
    )


def write_own(folder: Path, train_patients: int, report_column: str = "report") -> None:
    """Write CTs and the table of their reports as a person has them; four patients to test on."""
    phantoms, manifest = Phantoms(few_patients(train_patients), 0), folder.parent / "phantoms.jsonl"
    phantoms.fetch(manifest, lambda _: [])
    folder.mkdir()
    with (folder / "reports.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", report_column])
        for case in phantoms.cases(rows_by_case(manifest))[0]:
            shutil.copy(store_root() / case.volume, folder / f"{case.case_id}.nii.gz")
            writer.writerow([case.case_id, case.report.text])
