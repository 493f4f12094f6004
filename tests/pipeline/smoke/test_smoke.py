"""A smoke run: what is made smaller and what stays, what is refused, and the whole of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.dvc_yaml import read_declarations
from pipeline.profiles import compose, flatten, read_document
from pipeline.smoke.smaller import smaller
from pipeline.smoke.smoke import Request, smoke
from tests.test_config import PROFILES
from uvlm.config import parse_params
from uvlm.errors import ConfigError, SetupError

OWN = """# @package _global_
defaults:
  - chest_small
  - _self_
profile: own
pseudo_label:
  airway: {backend: none}
  vessel: {backend: none}
label_maps:
  priority: [anatomy, lesion]
"""
MOST_MB = 1500


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Path:
    """A copy of conf/, of dvc.yaml and of the code, with a profile of somebody's own."""
    copy = tmp_path / "a böx"
    for name in ("conf", "pipeline", "uvlm"):
        shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "dvc.yaml", copy)
    (copy / "conf" / "profile" / "own.yaml").write_text(OWN)
    return copy


def edit(project: Path, **sections: dict[str, Any]) -> None:
    """Change the profile `own`."""
    text = "".join(f"{name}: {json.dumps(section)}\n" for name, section in sections.items())
    (project / "conf" / "profile" / "own.yaml").write_text(OWN + text)


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_has_the_sizes_of_smoke_and_is_else_what_it_was(profile: str, root: Path) -> None:
    small = smaller(root, profile)
    parse_params(small, "small")
    before, after, smoke_run = (flatten(each) for each in (
        compose(root, profile), small, compose(root, "smoke")
    ))  # fmt: skip
    named = set(flatten(read_document(root / "conf/profile/smoke.yaml")))
    changed = {key for key in after if after[key] != before.get(key)}
    assert {key for key in changed - named if not key.startswith("download.")} == set()
    for key in ("preprocess.grid", "train_seg.patch", "encoder.channels", "decoder.width"):
        assert after[key] == smoke_run[key], key
    assert "smoke run" in after["summarize.note"]
    for key in ("profile", "download.source", "evaluate.labeller", "pseudo_label.vessel.backend"):
        assert after[key] == before[key]
    for key in changed:
        if isinstance(after[key], int):
            assert after[key] <= before[key], key


def test_a_training_that_is_left_out_stays_out(root: Path) -> None:
    assert smaller(root, "folder")["train_seg"]["steps"] == 0
    assert smaller(root, "chest")["train_cls"]["head_warmup_steps"] == 0
    assert smaller(root, "chest")["train_cls"]["steps"] == 2


def test_reports_are_not_asked_to_be_longer_than_the_decoder_writes(project: Path) -> None:
    edit(project, generate={"max_tokens": 512, "min_tokens": 100})
    small = smaller(project, "own")
    assert (small["generate"]["max_tokens"], small["generate"]["min_tokens"]) == (64, 64)
    parse_params(small, "small")


def test_an_encoder_keeps_its_number_of_stages(project: Path) -> None:
    edit(
        project,
        encoder={"channels": [32, 64, 128], "strides": [1, 2, 2], "blocks": [1, 3, 4]},
        injection={"reference_stage": 3},
        train_seg={"deep_supervision": [1.0, 0.5], "initial_weights": f"sha256:{'a' * 64}"},
    )
    profile = project / "conf" / "profile" / "own.yaml"
    stages = "layer_by_stage: {6: 1, 5: 2, 4: 3, 3: 4, 2: 5, 1: 6}"
    chest = project / "conf" / "profile" / "chest.yaml"
    chest.write_text(chest.read_text().replace(stages, "layer_by_stage: {3: 1, 2: 2, 1: 3}"))
    assert profile.is_file()
    small = smaller(project, "own")
    assert small["encoder"]["channels"] == [4, 4, 8]
    assert small["encoder"]["strides"] == [1, 2, 2]
    assert small["train_seg"]["initial_weights"] is None
    parse_params(small, "small")


@pytest.mark.slow
def test_every_patient_of_the_hub_that_has_a_dozen_is_asked_for(root: Path) -> None:
    for profile in ("chest", "abdomen"):
        section = compose(root, profile)["download"]
        small = smaller(root, profile)["download"]
        assert (small[small["source"]]["train"], small[small["source"]]["exclude"]) == (None, [])
        assert small.keys() == section.keys()
    longtail = smaller(root, "longtail")["download"]["longtail"]
    assert (longtail["train_patients"], longtail["test_patients"]) == (8, 4)
    assert longtail["wording"] == "home"


@pytest.mark.slow
def test_missing_weights_are_named_before_anything_is_written(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("UVLM_ATM22_WEIGHTS", "UVLM_QWEN3", "UVLM_RADBERT_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SetupError, match="profile chest: lacks") as caught:
        list(smoke(root, Request("chest", tmp_path / "out")))
    assert "UVLM_ATM22_WEIGHTS" in caught.value.details
    assert "tokenizer" in caught.value.details
    assert not (tmp_path / "out").exists()


def test_a_typo_is_named_before_anything_is_written(project: Path) -> None:
    edit(project, train_cls={"stepps": 3})
    with pytest.raises(ConfigError, match=r"train_cls\.steps"):
        list(smoke(project, Request("own", project / "out")))
    with pytest.raises(ConfigError, match="no such profile"):
        list(smoke(project, Request("owl", project / "out")))
    assert not (project / "out").exists()


@pytest.mark.parametrize("is_file", [False, True])
def test_a_folder_that_holds_something_else_is_left_alone(
    is_file: bool, root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    mine = out if is_file else out / "store" / "ct.nii.gz"
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(ConfigError, match="exists, and is no smoke run"):
        list(smoke(root, Request("smoke", out)))
    assert mine.read_text() == "mine"


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("profile", ["smoke", "own"])
def test_every_stage_runs_and_nothing_else_in_the_project_changes(
    profile: str, project: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if profile == "own":  # that of phantoms is as a user's, with MLflow and its memory
        request.getfixturevalue("watched_without_mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://nowhere.invalid")  # is not written to
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    out = project / "data" / "smoke"
    (out / "project").mkdir(parents=True)  # of a run that was interrupted
    (out / "project" / "dvc.lock").write_text("of that run")
    (out / "smoke.json").write_text("{}")
    (out / "notes.txt").write_text("mine")
    lines = list(smoke(project, Request(profile, out)))
    found = json.loads((out / "smoke.json").read_text())
    assert found["stages"].keys() == read_declarations(project).keys()
    assert found["together_mb"] < MOST_MB
    page = (out / "project" / "reports" / "summary.md").read_text()
    assert "no number here says anything about quality" in page
    assert f"{len(found['stages'])} stages of {profile} ran in" in lines[0]
    assert (out / "notes.txt").read_text() == "mine"
    data = {project / "data", *(project / "data").rglob("*")}
    after = {path: path.stat().st_mtime_ns for path in project.rglob("*") if path not in data}
    assert after == before
