"""A finished tiny model on phantoms that it has never seen, rarer and of another seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.elsewhere import Elsewhere, evaluate_elsewhere
from tests.inference.conftest import CHANGES, forget, make_report_folder
from tests.pipeline.far import write_far_project
from uvlm.config import parse_params
from uvlm.data.cases import read_index, scored_cases
from uvlm.errors import ConfigError, DataError
from uvlm.evaluation.score import ScoreRequest, score
from uvlm.files import store_root
from uvlm.inference.predictor import Predictor
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.predictions import load_predictions
from uvlm.text.report import parse_report


@pytest.fixture
def project(
    root: Path, tmp_path: Path, tiny_document: dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A project with a profile `far`, and beside it the folder of a model trained elsewhere."""
    folder = tmp_path / "project"
    write_far_project(folder, root, tiny_document)
    for section, values in CHANGES.items():
        tiny_document[section] |= values
    make_report_folder(parse_params(tiny_document, "tests"), tmp_path / "models" / "report")
    monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "store"))
    monkeypatch.chdir(folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_a_finished_model_is_scored_on_another_set(project: Path, tmp_path: Path) -> None:
    model = tmp_path / "models" / "report"
    tuned = dict.fromkeys(ABNORMALITIES, 0.3) | {"temperature": 2.0}
    (model / "thresholds.json").write_text(json.dumps(tuned))
    before = files(model), files(project)
    out = tmp_path / "out"
    ended = CliRunner().invoke(
        app, ["evaluate", "--model", str(model), "--data", "far", "--out", str(out), "--json"]
    )
    assert ended.exit_code == 0, ended.output
    assert (files(model), files(project)) == before
    found = json.loads((out / "scores.json").read_text())
    assert json.loads(ended.stdout.splitlines()[-1]) == found
    assert found["elsewhere"]["fitted_on"].startswith("unknown")
    assert found["calibration"]["temperature"] == 2.0

    # What it says is what `uvlm predict` says of the same CTs.
    test = scored_cases(read_index(out / "manifests" / "index.jsonl"))
    predictions = {p.case_id: p for p in load_predictions(out / "predictions.jsonl")}
    assert set(predictions) == {case.case_id for case in test}
    assert found["n"] == len(test)
    assert found["n_missing"] == 0
    predictor = Predictor.load(model)
    drafted = predictor.predict(store_root() / test[0].volume)
    said = predictions[test[0].case_id]
    assert said.probabilities == pytest.approx(drafted.probabilities, abs=2e-6)
    assert parse_report(said.report) == drafted.report

    # And its scores are what `uvlm score` gives for the files.
    again = score(
        ScoreRequest(
            out / "references.csv",
            out / "predictions.jsonl",
            labels=out / "labels.csv",
            labeller="phantom",
            thresholds=model / "thresholds.json",
            training=out / "training.csv",
            samples=20,
        )
    )
    for section in ("report", "cls", "calibration", "averages", "baselines"):
        assert again[section] == found[section]


def test_data_of_other_abnormalities_are_refused_before_anything_is_fetched(
    project: Path, tmp_path: Path
) -> None:
    model, out = tmp_path / "models" / "report", tmp_path / "out"
    with pytest.raises(ConfigError, match="3 abnormalities"):
        Elsewhere.of(project, model, "abdomen", out)
    assert not out.exists()


def test_cases_that_the_model_was_fitted_on_are_refused(project: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "models" / "report", tmp_path / "out"
    beside = tmp_path / "models" / "cls"
    beside.mkdir()
    config = json.loads((model / "config.json").read_text())
    kept = {key: config[key] for key in ("encoder", "grid", "classifier", "abnormalities")}
    digests = {part: config["weights"][part] for part in ("encoder", "classifier")}
    (beside / "config.json").write_text(json.dumps({"kind": "cls", **kept, "weights": digests}))
    forget(model, "segmentation")
    fits = {"classification": {"train": ["train_9_a_1"]}, "thresholds": {"val": ["valid_1_a"]}}
    (beside / "fitted_on.json").write_text(json.dumps(fits))
    with pytest.raises(DataError, match="was fitted on 1 of the"):
        evaluate_elsewhere(Elsewhere.of(project, model, "far", out))
    assert not (out / "predictions.jsonl").exists()


@pytest.mark.slow
def test_mirrored_cts_are_described_beside_the_others(project: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "models" / "report", tmp_path / "out"
    request = Elsewhere.of(project, model, "far", out, mirrored=True)
    found = evaluate_elsewhere(request)
    both = [load_predictions(out / name) for name in ("predictions.jsonl", "mirrored.jsonl")]
    assert [p.case_id for p in both[0]] == [p.case_id for p in both[1]]
    probabilities = [[p.probabilities for p in each] for each in both]
    assert probabilities[0] != probabilities[1]
    assert found["mirrored"]["read_by"] == "phantom"
    assert found["mirrored"]["n"] >= 0
