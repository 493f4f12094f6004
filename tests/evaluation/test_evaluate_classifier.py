"""Stage 2 is scored without a decoder by the code of `evaluate`: the same numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.test_evaluate import cases, params, root, run
from uvlm.config import Params
from uvlm.evaluation.evaluate_classifier import evaluate_classifier

__all__ = ["cases", "params", "root", "run"]  # fixtures


def scored(params: Params, root: Path, predictions: Path, out: Path) -> dict[str, Any]:
    evaluate_classifier(
        params,
        index=root / "index.jsonl",
        predictions=predictions,
        thresholds=root / "thresholds.json",
        out=out,
    )
    return dict(json.loads(out.read_text()))


@pytest.mark.slow
def test_the_numbers_are_those_of_evaluate(
    run: Callable[..., dict[str, Any]], params: Params, root: Path, tmp_path: Path
) -> None:
    whole = run()
    alone = scored(params, root, root / "predictions.jsonl", tmp_path / "classify.json")
    assert alone["cls"] == whole["cls"]
    assert alone["classes"] == whole["classes"]
    assert {key: whole[key] for key in ("n", "n_patients", "n_missing")} == {
        key: alone[key] for key in ("n", "n_patients", "n_missing")
    }
    assert alone["protocol"].items() <= whole["protocol"].items()


def test_a_classifier_that_never_trained_has_no_numbers(
    params: Params, root: Path, tmp_path: Path
) -> None:
    silent = tmp_path / "predictions.jsonl"
    rows = [json.loads(line) for line in (root / "predictions.jsonl").read_text().splitlines()]
    silent.write_text("".join(json.dumps(r | {"probabilities": {}}) + "\n" for r in rows))
    assert scored(params, root, silent, tmp_path / "classify.json")["cls"] == {}
