"""What a later stage would refuse, the first one refuses."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.check_params import check_params, missing_parts
from pipeline.code import describe
from pipeline.profiles import compose, profile_names, write_params
from pipeline.stage import execute
from uvlm.config import parse_params
from uvlm.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("profile", profile_names(ROOT))
def test_every_profile_can_be_built(profile: str) -> None:
    check_params(parse_params(compose(ROOT, profile), profile), ROOT)


@pytest.mark.parametrize(
    ("path", "value", "fact"),
    [
        ("profile", "head", "profile head: no such profile; choose abdomen"),
        ("preprocess.grid", [33, 48, 48], "preprocess.grid: .* not a multiple of 8"),
        ("classifier.heads", 7, "classifier.heads: 7 heads do not divide the 96 channels"),
        ("injection.layer_by_stage", {1: 1, 2: 1}, "stages 1 and 2 both feed layer 1"),
        ("label_maps.priority", ["lesion", "anatomy"], "label_maps.priority: lesion is not the"),
        ("label_maps.dataset", "abdomen", "labeller: phantom reads the 18 abnormalities"),
    ],
)
def test_what_cannot_work_is_refused_by_its_key(path: str, value: Any, fact: str) -> None:
    document = compose(ROOT, "phantom")
    *parents, name = path.split(".")
    section = document
    for parent in parents:
        section = section[parent]
    section[name] = value
    with pytest.raises(ConfigError, match=fact):
        check_params(parse_params(document, "params.yaml"), ROOT)


def test_a_data_set_that_nobody_wrote_is_refused() -> None:
    document = compose(ROOT, "phantom")
    document["download"] |= {"source": "head", "head": {}}
    with pytest.raises(ConfigError, match="there is no data set head; use phantom, ct_rate"):
        check_params(parse_params(document, "params.yaml"), ROOT)


def test_qwen_need_not_be_here_but_what_the_encoder_cannot_do_is_still_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("UVLM_QWEN3", raising=False)
    document = compose(ROOT, "phantom")
    document["tokenizer"]["kind"], document["decoder"]["kind"] = "qwen3", "qwen3_lora"
    check_params(parse_params(document, "params.yaml"), ROOT)
    document["classifier"]["heads"] = 7
    with pytest.raises(ConfigError, match="7 heads"):
        check_params(parse_params(document, "params.yaml"), ROOT)


NAMED_PLACES = (
    *("UVLM_QWEN3", "UVLM_RADBERT_WEIGHTS", "UVLM_ATM22_WEIGHTS", "UVLM_LLM_URL"),
    "TOTALSEG_WEIGHTS_PATH",
)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A computer with none of the parts that come from elsewhere."""
    for name in NAMED_PLACES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "nothing"))
    return monkeypatch


@pytest.mark.parametrize(
    ("profile", "users"),
    [
        ("phantom", []),
        ("folder", []),
        ("chest_small", ["pseudo_label.airway and pseudo_label.vessel"]),
        ("chest_rules", ["pseudo_label.airway", "pseudo_label.vessel", "tokenizer"]),
        ("chest", ["pseudo_label.airway", "pseudo_label.vessel", "tokenizer", "evaluate.labeller"]),
        ("abdomen", ["tokenizer", "evaluate.labeller"]),
    ],
)
@pytest.mark.usefixtures("bare")
def test_a_profile_names_each_missing_part_in_a_line_of_its_own(
    profile: str, users: list[str]
) -> None:
    missing = missing_parts(parse_params(compose(ROOT, profile), profile))
    assert [line.partition(": ")[0] for line in missing] == users
    assert all("\n" not in line and "; " in line for line in missing)  # each with its remedy


def test_a_part_that_is_there_is_missing_no_more(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    params = parse_params(compose(ROOT, "chest"), "chest")
    before = missing_parts(params)
    for variable, files in {
        "UVLM_QWEN3": ["tokenizer.json"],
        "UVLM_RADBERT_WEIGHTS": ["config.json", "model.safetensors"],
    }.items():
        folder = tmp_path / variable
        folder.mkdir()
        bare.setenv(variable, str(folder))
        assert any(str(folder) in line for line in missing_parts(params))  # empty is not enough
        for name in files:
            (folder / name).write_bytes(b"{}")
    weights = tmp_path / "airway.safetensors"
    weights.write_bytes(b"")
    bare.setenv("UVLM_ATM22_WEIGHTS", str(weights))
    assert [line for line in before if "vessel" in line] == missing_parts(params)


@pytest.mark.slow
@pytest.mark.usefixtures("bare")
def test_the_first_stage_refuses_chest_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    write_params(tmp_path, compose(ROOT, "chest"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/mlflow.db")
    assert execute("code", describe) == 4
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("code: profile chest: lacks 4 parts; set them up first")
    assert [line for line in lines if line.startswith("evaluate.labeller: UVLM_RADBERT_WEIGHTS: ")]
    held = {path.name for path in (tmp_path / "data" / "store").iterdir()}
    assert held == {"workspaces"}  # registered, and nothing more
