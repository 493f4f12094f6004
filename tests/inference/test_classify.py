"""The stage `classify`: the probabilities that `generate` writes, without a decoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.inference.conftest import forget
from tests.inference.test_generate import SCANS, paths
from uvlm.config import Params
from uvlm.data.cases import read_index, write_index
from uvlm.errors import DataError
from uvlm.inference.classify import classify_cases
from uvlm.inference.generate import GeneratePaths, generate_reports
from uvlm.text.predictions import CasePrediction, load_predictions

__all__ = ["paths"]  # a fixture


def classified(params: Params, paths: GeneratePaths, out: Path) -> list[CasePrediction]:
    classify_cases(
        params,
        index=paths["index"],
        preprocess=paths["preprocess"],
        model=paths["model"],
        predictions=out,
    )
    return load_predictions(out)


def test_probabilities_are_those_of_generate_and_no_report_is_written(
    params: Params, paths: GeneratePaths, tmp_path: Path
) -> None:
    generate_reports(params, **paths)
    expected = load_predictions(paths["predictions"])
    found = classified(params, paths, tmp_path / "classified" / "predictions.jsonl")
    assert [(p.case_id, p.patient_id, p.model, p.report) for p in found] == [
        (p.case_id, p.patient_id, p.model, "") for p in expected
    ]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.probabilities == pytest.approx(theirs.probabilities, abs=2e-6)
    assert [p.case_id for p in found] == SCANS


def test_a_classifier_that_never_trained_says_nothing(
    params: Params, paths: GeneratePaths, tmp_path: Path
) -> None:
    forget(paths["model"], "classifier")
    out = tmp_path / "classified" / "predictions.jsonl"
    assert [p.probabilities for p in classified(params, paths, out)] == [{}] * len(SCANS)
    assert "classifier" not in json.loads((out.parent / "trained.json").read_text())["trained"]


def test_without_a_test_scan_nothing_is_written(
    params: Params, paths: GeneratePaths, tmp_path: Path
) -> None:
    write_index(paths["index"], [c for c in read_index(paths["index"]) if c.split != "test"])
    out = tmp_path / "classified" / "predictions.jsonl"
    with pytest.raises(DataError, match="no first reconstruction of a test scan"):
        classified(params, paths, out)
    assert not out.exists()
