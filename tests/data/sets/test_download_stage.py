"""The stage `download` of the profile chest, as DVC runs it, against the hub of the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.profiles import compose, write_params
from tests.data.sets.conftest import publish
from tests.data.sets.hub.server import FakeHub
from uvlm.store import read_manifest

if TYPE_CHECKING:
    from tests.data.conftest import Dataset

TOKEN = "hf_a_secret_of_this_test"


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Path:
    """What the stage reads: dvc.yaml and the parameters of `chest`."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(root / "dvc.yaml", folder)
    write_params(folder, compose(root, "chest"))
    return folder


def start(root: Path, project: Path, fake: FakeHub) -> subprocess.Popen[str]:
    environment = os.environ | {
        "DVC_ROOT": str(project),
        "HF_ENDPOINT": fake.endpoint,
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": TOKEN,
        "MLFLOW_TRACKING_URI": "sqlite:////proc/nowhere/mlflow.db",
        "PYTHONPATH": str(root),
        "UVLM_DATA_ROOT": str(project.parent / "fetched"),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.download"],
        cwd=project,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.slow
def test_a_gate_a_signal_and_a_second_try_have_the_right_exit_codes(
    root: Path, project: Path, dataset: Dataset, fake: FakeHub
) -> None:
    publish(dataset, fake)
    manifest = project / "data/manifests/download.jsonl"

    fake.gate = "the token of somebody else"
    refused = start(root, project, fake)
    said, _ = refused.communicate(timeout=120)
    assert refused.returncode == 4, said
    assert "ibrahimhamamci/CT-RATE: the hub refuses access (HTTP 401); accept the terms" in said

    fake.gate, fake.pace = TOKEN, 0.5
    fake.requests.clear()
    stopped = start(root, project, fake)
    while fake.counted("resolve") < 6 and stopped.poll() is None:
        time.sleep(0.01)
    stopped.send_signal(signal.SIGTERM)
    said, _ = stopped.communicate(timeout=120)
    assert stopped.returncode == 5, said
    assert "run the same command to continue" in said
    assert not manifest.exists()

    fake.pace = 0.0
    done = start(root, project, fake)
    said, _ = done.communicate(timeout=120)
    assert done.returncode == 0, said
    assert len(read_manifest(manifest)) == 8 + 1 + 1 + 3 * 11
    written = [path for path in project.parent.rglob("*") if path.is_file()]
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]
