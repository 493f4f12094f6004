"""Every profile can be planned by DVC, and without network or data stops with one clear line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NoReturn

import pytest
from dvc.repo import Repo
from huggingface_hub import constants

from pipeline.download import download
from pipeline.dvc_yaml import read_declarations
from pipeline.profiles import compose, use_profile, write_params
from pipeline.stage import execute
from tests.test_config import PROFILES
from uvlm.errors import SetupError


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


# Of a library below DVC, about its own interface.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")
@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_plans_the_same_stages(profile: str, project: Path) -> None:
    use_profile(project, profile)
    stages = read_declarations(project)
    for out in (project / out for stage in stages.values() for out in stage.outs):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.touch()  # as an earlier run of another profile leaves them
    with Repo(str(project)) as repo:  # as `dvc repro --dry`, which takes seconds to start
        names = [stage.addressing for stage in repo.reproduce(dry=True)]
    assert sorted(names) == sorted(stages)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("profile", "code", "line"),
    [
        ("chest", 4, "download: ibrahimhamamci/CT-RATE: HF_HUB_OFFLINE forbids the network; unset"),
        ("abdomen", 4, "download: AbdomenAtlas/AbdomenAtlas3.0Mini: HF_HUB_OFFLINE forbids"),
        ("folder", 2, "download: UVLM_OWN_DATA: is not set; set it to the folder of your CTs"),
    ],
)
def test_a_profile_without_its_data_stops_at_download_with_one_line(
    profile: str,
    code: int,
    line: str,
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/mlflow.db")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.delenv("UVLM_OWN_DATA", raising=False)
    use_profile(project, profile)
    assert execute("download", download) == code
    said = [text for text in capsys.readouterr().err.splitlines() if "download:" in text]
    assert [text[: len(line)] for text in said] == [line]
    assert not (project / "data" / "manifests").exists()


def test_reports_without_labels_and_a_labeller_say_what_to_add(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = project / "mine"
    own.mkdir()
    (own / "reports.csv").write_text("id,report\np1,Clear.\n")
    (own / "p1.nii.gz").write_bytes(b"read later")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/mlflow.db")
    monkeypatch.setenv("UVLM_OWN_DATA", str(own))
    document = compose(project, "folder")
    document["evaluate"]["labeller"] = "rules"
    write_params(project, document)

    def missing(name: str) -> NoReturn:
        raise SetupError("evaluate.labeller", f"the {name} labeller is not here")

    monkeypatch.setattr("uvlm.evaluation.labeller.get_labeller", missing)
    assert execute("download", download) == 4
    assert "the table has no labels" in capsys.readouterr().err
    assert not (project / "data" / "manifests").exists()
