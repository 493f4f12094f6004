"""Every profile can be planned by DVC, and the ones of later releases stop with one clear line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.declarations import read_declarations
from pipeline.download import download
from pipeline.profiles import use_profile
from pipeline.stage import execute


@pytest.fixture
def project(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that DVC plans from, without git."""
    for name in ("conf", "pipeline", "uvlm"):
        shutil.copytree(root / name, tmp_path / name)
    shutil.copy(root / "dvc.yaml", tmp_path)
    (tmp_path / ".dvc").mkdir()
    config = (root / ".dvc" / "config").read_text().replace("[core]", "[core]\n    no_scm = true")
    (tmp_path / ".dvc" / "config").write_text(config)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("profile", ["phantom", "chest", "abdomen"])
def test_every_profile_plans_the_same_stages(profile: str, project: Path) -> None:
    use_profile(project, profile)
    stages = read_declarations(project)
    for out in (project / out for stage in stages.values() for out in stage.outs):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.touch()  # as an earlier run of another profile leaves them
    planned = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--dry"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert planned.returncode == 0, planned.stderr
    names = [line.split("'")[1] for line in planned.stdout.splitlines() if "Running" in line]
    assert sorted(names) == sorted(stages)


@pytest.mark.parametrize("profile", ["chest", "abdomen"])
def test_a_profile_without_adapter_stops_at_download_with_exit_code_4(
    profile: str, project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/mlflow.db")
    use_profile(project, profile)
    assert execute("download", download) == 4
    (line,) = [text for text in capsys.readouterr().err.splitlines() if "adapter" in text]
    assert line.startswith("download: download.source ")
    assert "uvlm use phantom" in line
    assert not (project / "data").exists()
