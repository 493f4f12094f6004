"""From a folder of CTs and a CSV to a trained model: every stage of the profile `folder`, tiny."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.dvc_yaml import read_declarations
from pipeline.profiles import compose, write_params
from tests.pipeline.conftest import write_own

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]
OWN_SECTIONS = ("profile", "download", "index", "pseudo_label", "label_maps")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Sixteen CTs and a table of two columns."""
    write_own(folder := tmp_path / "mine", train_patients=12)
    return folder


@pytest.fixture
def project(root: Path, tmp_path: Path, tiny_document: dict[Any, Any]) -> Path:
    """The profile `folder` with the sizes of the tiny phantoms, and the labeller of patients."""
    document = tiny_document | {key: compose(root, "folder")[key] for key in OWN_SECTIONS}
    document["index"]["max_quarantined_share"] = 0.0
    document["train_seg"]["steps"] = 0
    document["evaluate"]["labeller"] = compose(root, "folder")["evaluate"]["labeller"]
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(root / "dvc.yaml", folder)
    for package in ("uvlm", "pipeline"):  # which the stage `code` reads
        (folder / package).symlink_to(root / package)
    write_params(folder, document)
    return folder


def test_a_folder_and_a_table_become_a_trained_model(
    root: Path, project: Path, own: Path, mlflow_away: Path
) -> None:
    before = {path: path.read_bytes() for path in own.iterdir()}
    environment = os.environ | {
        "DVC_ROOT": str(project),
        "PYTHONPATH": f"{mlflow_away}{os.pathsep}{root}",
        "UVLM_OWN_DATA": str(own),
    }
    for stage in read_declarations(root).values():
        run = subprocess.run(
            [sys.executable, *stage.command.split()[1:]],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, f"{stage.name}: {run.stderr[-3000:]}"
    assert {path: path.read_bytes() for path in own.iterdir()} == before
    metrics = json.loads((project / "reports/metrics.json").read_text())
    assert metrics["n"] == 3  # a fifth of sixteen patients
    page = (project / "reports/summary.md").read_text()
    assert "The labeller rules reads the abnormalities" in page
    assert "phantom" not in page
    assert "3 scans of 3 patients" in page
    assert "segmentation was not trained" in page
    assert "Dice" not in page
    assert (project / "data/models/report/decoder.safetensors").is_file()
