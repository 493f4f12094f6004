"""The whole pipeline on a few small phantoms, twice, in a temporary copy of the project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.dvc_yaml import read_declarations
from pipeline.profiles import write_params

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]


def run(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: v for name, v in os.environ.items() if not name.startswith("DVC_ROOT")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    result = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return result


@pytest.fixture
def project(root: Path, tmp_path: Path, tiny_document: dict[Any, Any]) -> Path:
    """A committed copy of the working tree with tiny parameters."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    copy = tmp_path / "project"
    for name in filter(None, listed.stdout.split("\0")):
        if name != "dvc.lock" and (root / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, copy / name)
    write_params(copy, tiny_document)
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    run(copy, "git", "init", "--quiet")
    run(copy, "git", "add", "--all")
    run(copy, "git", *identity, "commit", "--quiet", "--message", "tiny")
    return copy


def test_the_pipeline_runs_once_and_then_has_nothing_to_do(project: Path) -> None:
    first = run(project, "dvc", "repro")
    stages = read_declarations(project)
    for name, stage in stages.items():
        assert f"Running stage '{name}'" in first.stdout
        for out in stage.outs:
            assert (project / out).exists(), f"{name} left no {out}"
    metrics = json.loads((project / "reports" / "metrics.json").read_text())
    assert metrics["n"] > 0
    for name, baseline in metrics["baselines"].items():
        assert metrics["oracle"]["macro_f1"] > baseline["macro_f1"], name
    statuses = run(
        project, sys.executable, "-c", _CHILDREN.format(database=project / "mlflow.db")
    ).stdout
    assert json.loads(statuses) == {**dict.fromkeys(stages, "FINISHED"), "parent": "FINISHED"}

    start = time.monotonic()
    second = run(project, "dvc", "repro")
    assert "Running stage" not in second.stdout
    assert time.monotonic() - start < 20
    assert not run(project, "dvc", "status", "--json").stdout.strip().strip("{}")


_CHILDREN = """
import json
from mlflow.tracking import MlflowClient
client = MlflowClient("sqlite:///{database}")
runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
print(json.dumps({{r.data.tags.get("dvc.stage", "parent"): r.info.status for r in runs}}))
"""
