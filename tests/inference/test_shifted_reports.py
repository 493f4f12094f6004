"""Validation reports at several shifts of the cues: as `predict --claim-more` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.inference.conftest import CHANGES, body, lps, make_report_folder
from tests.inference.test_generate import CASES, SCANS
from tests.inference.test_generate import paths as paths
from uvlm.config import Params, parse_params
from uvlm.errors import DataError
from uvlm.inference.generate import GeneratePaths, generate_reports
from uvlm.inference.predictor import Predictor
from uvlm.text.predictions import load_predictions
from uvlm.text.report import parse_report
from uvlm.text.shifted_reports import read_shifted, write_shifted

CUED: dict[str, dict[str, Any]] = {
    "injection": {"cues": "presence"},
    "train_cls": {"evidence_folds": 2},
    "generate": {"batch_size": 2, "cue_shifts": [6.0, -6.0]},
}


@pytest.fixture
def params(tiny_document: dict[Any, Any]) -> Params:
    for section, values in (CHANGES | CUED).items():
        tiny_document[section] |= values
    return parse_params(tiny_document, "tests")


@pytest.fixture
def report_folder(params: Params, tmp_path: Path) -> Path:
    make_report_folder(params, tmp_path / "models" / "report")
    return tmp_path / "models" / "report"


@pytest.mark.slow
def test_every_validation_scan_is_described_at_every_shift(
    paths: GeneratePaths, params: Params
) -> None:
    generate_reports(params, **paths)
    found = read_shifted(paths["predictions"])
    assert list(found) == [-6.0, 6.0]
    assert found[-6.0] != found[6.0]
    numbers = {case: n for n, (case, split) in enumerate(CASES.items()) if split == "val"}
    for shift, reports in found.items():
        assert reports.keys() == numbers.keys()
        predictor = Predictor.load(paths["model"], shift)
        for case, text in reports.items():
            drafted = predictor.predict_volume(lps(body(numbers[case]))).report
            assert parse_report(text) == drafted
    assert [p.case_id for p in load_predictions(paths["predictions"])] == SCANS


def test_without_shifts_there_is_no_file(paths: GeneratePaths, params: Params) -> None:
    section = params.generate.model_copy(update={"cue_shifts": ()})
    generate_reports(params.model_copy(update={"generate": section}), **paths)
    assert {p.name for p in paths["predictions"].parent.iterdir()} == {
        "predictions.jsonl", "trained.json"
    }  # fmt: skip
    assert read_shifted(paths["predictions"]) == {}


@pytest.mark.parametrize("content", ["", "[]", '{"shifts": [{"shift": "x", "reports": {}}]}'])
def test_a_damaged_file_is_refused_in_a_line(content: str, tmp_path: Path) -> None:
    predictions = tmp_path / "predictions.jsonl"
    write_shifted(predictions, {1.0: {"a": "Findings: \u2028."}})
    assert read_shifted(predictions) == {1.0: {"a": "Findings: \u2028."}}
    (tmp_path / "shifted_reports.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="dvc repro generate"):
        read_shifted(predictions)
