"""kill -9 and a full disk at random moments leave nothing wrong in MLflow afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.registry.test_lineage import DVC_YAML


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_random_interruptions(kills: int, workspace: Path, root: Path) -> None:
    (workspace / "dvc.yaml").write_text(DVC_YAML)
    index = workspace / "data/manifests/index.jsonl"
    index.parent.mkdir(parents=True)
    index.write_text(json.dumps({"case": "1", "split": "train"}) + "\n")
    module = "tests.pipeline.registry.killed_publishing"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, str(workspace), str(kills)],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    *problems, summary = done.stdout.splitlines()
    assert problems == []
    number = [int(word) for word in summary.split() if word.isdigit()]
    assert number[0] == kills
    assert number[2] >= 1  # at least the one that nothing interrupted
