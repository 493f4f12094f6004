"""What commands say of environment variables: the list, the page, and wrong values."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.info import environment_page
from pipeline.profiles import write_params
from uvlm.environment import TABLE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, tiny_document: dict[Any, Any]) -> Path:
    """A folder in which stages run."""
    write_params(tmp_path, tiny_document)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    return tmp_path


def run(project: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a module of the pipeline; MLflow is out of reach, which ends nothing."""
    kept = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}
    own = {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": "sqlite:////proc/nowhere/mlflow.db"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=project,
        env=kept | own | variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "text"),
    [
        ("pipeline.download", "UVLM_WORKERS", "two"),
        ("pipeline.download", "RANK", "first"),
        ("pipeline.download", "UVLM_DATA_ROOT", __file__),
        ("pipeline.train_seg", "UVLM_DEVICES", "0"),
        ("pipeline.train_seg", "SLURM_STEP_NUM_TASKS", "many"),
        ("pipeline.cli info", "UVLM_DEVICE", "gpu"),
        ("pipeline.cli info", "UVLM_PRECISION", "bf16"),
    ],
)
def test_a_command_ends_with_2_and_one_line(
    module: str, name: str, text: str, project: Path
) -> None:
    accepted = {variable.name: variable.kind.accepts for variable in TABLE}
    extra = {"WORLD_SIZE": "2"} if name == "RANK" else {}
    done = run(project, "-m", *module.split(), **{name: text}, **extra)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].removeprefix(f"{module.partition('.')[2]}: ") == (
        f"{name}: is '{text}'; use {accepted[name]}"
    )


@pytest.mark.slow
def test_srun_without_tasks_per_node_ends_a_stage_with_2_and_one_line(project: Path) -> None:
    done = run(project, "-m", "pipeline.download", SLURM_STEP_NUM_TASKS="2")
    assert done.returncode == 2
    assert done.stderr == (
        "download: srun: --ntasks-per-node is missing; set it to one task per GPU\n"
    )


@pytest.mark.slow
def test_a_device_that_is_not_there_ends_a_command_with_4(project: Path) -> None:
    done = run(project, "-m", "pipeline.cli", "info", UVLM_DEVICE="cuda:99")
    assert (done.returncode, done.stderr) == (
        4,
        "UVLM_DEVICE: cuda:99 is not available here; use auto or cpu\n",
    )


@pytest.mark.slow
def test_the_list_shows_each_variable_with_its_meaning_no_secret_and_no_end_at_a_wrong_one(
    project: Path,
) -> None:
    secrets = {"HF_TOKEN": "hf_abc123", "UVLM_LLM_KEY": "sk-abc123"}
    others = {"UVLM_WORKERS": "two", "UVLM_DEVICE": "cpu", "UVLM_LLM_MODEL": "a\nb"}
    command = ("-m", "pipeline.cli", "info", "--environment")
    shown = run(project, "-X", "importtime", *command, **secrets, **others)
    assert shown.returncode == 0
    assert "abc123" not in shown.stdout
    words = " ".join(shown.stdout.split())
    assert all(f"{v.name} = " in words and v.meaning in words for v in TABLE)
    for row in (
        "HF_TOKEN = set (set)",
        "UVLM_LLM_KEY = set (set)",
        "UVLM_WORKERS = two (wrong; use a whole number from 1)",
        "UVLM_DEVICE = cpu (set)",
        "UVLM_LLM_MODEL = a\\nb (set)",
        "UVLM_STRATEGY = ddp (default)",
    ):
        assert row in shown.stdout.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
    assert "uvlm.environment" in imported
    assert "torch" not in imported
    rows = json.loads(run(project, *command, "--json", **secrets, **others).stdout)
    assert [row["name"] for row in rows] == [variable.name for variable in TABLE]
    assert {row["from"] for row in rows if row["name"] in others} == {"set", "wrong"}
    assert {row["value"] for row in rows if row["name"] in secrets} == {"set"}


def test_the_committed_page_is_what_the_table_says() -> None:
    assert (ROOT / "docs/environment.md").read_text(encoding="utf-8") == environment_page()
