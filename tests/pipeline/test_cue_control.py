"""`uvlm evaluate --cues`: who gives a report its cues, and what that leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.cue_control import control_evidence, named
from pipeline.elsewhere import Elsewhere, evaluate_elsewhere
from tests.inference.conftest import CHANGES, forget, make_report_folder
from tests.pipeline.far import write_far_project
from uvlm.config import parse_params
from uvlm.data.examples import read_examples
from uvlm.errors import ConfigError
from uvlm.inference.cue_controls import Control
from uvlm.inference.describe import describe, read_evidence, ready_writer
from uvlm.model.load import load_report_model
from uvlm.text.predictions import load_predictions

CUED: dict[str, dict[str, Any]] = {
    "injection": {"cues": "both"},
    "classifier": {"num_queries": 4, "heads": 2, "attributes": True},
    "train_cls": {"evidence_folds": 2},
}


@pytest.fixture
def project(
    root: Path, tmp_path: Path, tiny_document: dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A project with a profile `far`, and beside it a model with cues and one without."""
    folder = tmp_path / "project"
    write_far_project(folder, root, tiny_document)
    for name, changes in (("plain", CHANGES), ("cued", CHANGES | CUED)):
        for section, values in changes.items():
            tiny_document[section] |= values
        make_report_folder(parse_params(tiny_document, "tests"), tmp_path / name / "report")
    monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "store"))
    monkeypatch.chdir(folder)
    return folder


def evaluate(model: Path, out: Path, *words: str) -> Any:
    command = ["evaluate", "--model", str(model), "--data", "far", "--out", str(out), *words]
    return CliRunner().invoke(app, command)


@pytest.mark.slow
def test_controls_say_what_they_are_and_leave_the_model_and_its_own_scores(
    project: Path, tmp_path: Path
) -> None:
    model, out = tmp_path / "cued" / "report", tmp_path / "out"
    before = {path: path.read_bytes() for path in model.rglob("*") if path.is_file()}
    assert evaluate(model, out, "--json").exit_code == 0
    own = {name: (out / name).read_bytes() for name in ("predictions.jsonl", "scores.json")}
    texts = {"own": [p.report for p in load_predictions(out / "predictions.jsonl")]}
    for control in ("oracle", "shuffled", "unknown"):
        ended = evaluate(model, out, "--cues", control)
        assert ended.exit_code == 0, ended.output
        assert ended.stdout.startswith(("CUES OF", "NO CUES"))
        scores = json.loads((out / f"scores_cues_{control}.json").read_text())
        assert scores["cues"]["given"] == control
        predictions = load_predictions(out / f"predictions_cues_{control}.jsonl")
        assert all(p.model.endswith(f", cues {control}") for p in predictions)
        assert scores["n"] == len(predictions) == len(texts["own"])
        assert scores["elsewhere"]["fitted_on"].startswith("unknown")
        texts[control] = [p.report for p in predictions]
    assert len({tuple(each) for each in texts.values()}) == 4
    assert {name: (out / name).read_bytes() for name in own} == own
    assert {path: path.read_bytes() for path in before} == before
    assert "cues" not in json.loads(own["scores.json"])


@pytest.mark.slow
def test_evidence_of_each_control(project: Path, tmp_path: Path) -> None:
    model_dir, out = tmp_path / "cued" / "report", tmp_path / "out"
    request = Elsewhere.of(project, model_dir, "far", out, cues="oracle")
    evaluate_elsewhere(request)
    assert not (out / "predictions.jsonl").exists()
    assert json.loads((out / "scores_cues_oracle.json").read_text())["cues"]["given"] == "oracle"
    manifests = request.manifest("index"), request.manifest("preprocess")
    params, names = request.params, request.names
    examples = read_examples(*manifests, params.preprocess, "test")
    model = load_report_model(model_dir)
    own = read_evidence(model, examples, params.preprocess, params.generate.batch_size)
    how = model, examples, params, names
    assert control_evidence("own", *how) is None
    kinds: tuple[Control, ...] = ("oracle", "shuffled", "unknown")
    given = {control: control_evidence(control, *how) for control in kinds}
    oracle, shuffled, unknown = (each for each in given.values() if each is not None)
    assert unknown.isnan().all()
    flags = torch.tensor([example.case.abnormalities for example in examples]).bool()
    assert model.uvlm.cues is not None
    assert torch.equal(oracle[..., 0] > model.uvlm.cues.cuts, flags)
    assert torch.equal(oracle[~flags][:, 1:], own[~flags][:, 1:])  # of what is absent, as it was
    patients = [example.case.patient_id for example in examples]
    for number, row in enumerate(shuffled):
        (other,) = [n for n, each in enumerate(own) if torch.equal(each, row)]
        assert patients[other] != patients[number]
    writer = ready_writer(model)
    # Evidence of the classifier itself, given from outside, changes nothing.
    plain = describe(writer, examples, params.preprocess, params.generate, 0)
    same = describe(writer, examples, params.preprocess, params.generate, 0, evidence=own)
    assert plain == same


@pytest.mark.parametrize(
    ("folder", "words", "said"),
    [
        ("plain", ["--cues", "oracle"], "was trained without cues"),
        ("cued", ["--cues", "orakel"], "choose own, oracle, shuffled, unknown"),
        ("cued", ["--cues", "oracle", "--mirrored"], "leave out --mirrored"),
        ("untrained", ["--cues", "unknown"], "never learned"),
    ],
)
def test_senseless_controls_are_refused_before_anything_is_fetched(
    folder: str, words: list[str], said: str, project: Path, tmp_path: Path
) -> None:
    if folder == "untrained":
        forget(tmp_path / "cued" / "report", "classifier")
        folder = "cued"
    ended = evaluate(tmp_path / folder / "report", tmp_path / "out", *words)
    assert isinstance(ended.exception, ConfigError)
    assert said in str(ended.exception)
    assert not (tmp_path / "out").exists()


def test_no_stage_can_be_given_an_oracle(tiny_document: dict[Any, Any]) -> None:
    for section in ("generate", "injection", "evaluate", "train_report"):
        changed = tiny_document | {section: tiny_document[section] | {"given_cues": "oracle"}}
        with pytest.raises(ConfigError, match="given_cues"):
            parse_params(changed, "tests")
    changed = tiny_document | {"injection": tiny_document["injection"] | {"cues": "oracle"}}
    with pytest.raises(ConfigError, match=r"injection\.cues"):
        parse_params(changed, "tests")


def test_files_are_named_by_their_cues() -> None:
    assert named("scores.json", "own") == "scores.json"
    assert named("scores.json", "oracle") == "scores_cues_oracle.json"
