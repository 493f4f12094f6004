"""kill -9 and a full disk at random moments leave nothing wrong in MLflow afterwards.

UVLM_PUBLISH_KILLS=30 pytest -s PATH_OF_THIS_FILE    the whole campaign
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.registry.test_lineage import DVC_YAML

KILLS = int(os.environ.get("UVLM_PUBLISH_KILLS", "6"))


@pytest.mark.slow
def test_random_interruptions(workspace: Path, root: Path) -> None:
    (workspace / "dvc.yaml").write_text(DVC_YAML)
    index = workspace / "data/manifests/index.jsonl"
    index.parent.mkdir(parents=True)
    index.write_text(json.dumps({"case": "1", "split": "train"}) + "\n")
    module = "tests.pipeline.registry.killed_publishing"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, str(workspace), str(KILLS)],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    *problems, summary = done.stdout.splitlines()
    assert problems == []
    number = [int(word) for word in summary.split() if word.isdigit()]
    assert number[0] == KILLS
    assert number[2] >= 1  # at least the one that nothing interrupted
