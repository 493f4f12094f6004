"""Metrics against examples worked by hand; tests/golden/*.json say how."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.conftest import (
    GOLDEN,
    golden,
    reference_of,
    reference_without_labels,
    reference_without_texts,
)
from uvlm.evaluation.bleu import corpus_bleu
from uvlm.evaluation.bootstrap import Resamples
from uvlm.evaluation.missing import is_missing, wrong_claims
from uvlm.evaluation.scores import (
    label_samples,
    per_class_samples,
    ranking_samples,
    text_samples,
)
from uvlm.evaluation.surface import mask_pair_scores
from uvlm.evaluation.text_metrics import cider, rouge_l

_OPERATORS: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def worked_out(formula: str) -> float:
    """The value of a formula of numbers, + - * / ** and exp."""

    def value(node: ast.expr) -> float:
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.BinOp():
                return _OPERATORS[type(node.op)](value(node.left), value(node.right))
            case ast.UnaryOp(op=ast.USub()):
                return -value(node.operand)
            case ast.Call(func=ast.Name(id="exp"), args=[argument]):
                return math.exp(value(argument))
        raise ValueError(formula)

    return value(ast.parse(formula, mode="eval").body)


def once(count: int) -> Resamples:
    return Resamples(np.ones((1, count)))


def test_every_golden_file_is_read_by_a_test() -> None:
    tests = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py")]
    for path in GOLDEN.glob("*.json"):
        assert any(f'golden("{path.stem}")' in source for source in tests), path


def test_bleu() -> None:
    case = golden("bleu")
    scores = corpus_bleu(case["references"], case["predictions"], case["protocol"])
    for name, formula in case["expected"].items():
        assert scores[name] == pytest.approx(worked_out(formula), abs=1e-9), name
    expected = [worked_out(formula) for formula in case["expected"].values()]
    assert scores["bleu_mean"] == pytest.approx(np.mean(expected), abs=1e-9)


def test_sacrebleu_13a() -> None:
    case = golden("sacrebleu_13a")
    samples = text_samples(reference_without_labels(case["references"]), case["predictions"])
    expected = worked_out(case["expected"]["sacrebleu_13a"])
    assert samples["sacrebleu_13a"] == pytest.approx(expected)


@pytest.mark.parametrize("metric", [rouge_l, cider])
def test_scores_of_single_reports(metric: Callable[..., np.ndarray]) -> None:
    case = {"rouge_l": golden("rouge_l"), "cider": golden("cider")}[metric.__name__]
    scores = metric(case["references"], case["predictions"], case["protocol"])
    expected = [worked_out(formula) for formula in case["expected"][metric.__name__]]
    assert scores == pytest.approx(expected)


def test_macro_scores_and_crg() -> None:
    case = golden("macro")
    labels, claimed = (np.asarray(case[key], dtype=bool) for key in ("labels", "claimed"))
    samples = label_samples(reference_without_texts(labels), claimed)
    for name, formula in case["expected"].items():
        assert samples[name] == pytest.approx(worked_out(formula)), name
    per_class = per_class_samples(labels, claimed, once(4))
    for name, formulas in case["per_class"].items():
        assert per_class[name][0] == pytest.approx([worked_out(f) for f in formulas]), name


def test_ranking() -> None:
    case = golden("ranking")
    labels = np.asarray(case["labels"], dtype=bool)[:, None]
    samples = ranking_samples(reference_without_texts(labels), np.asarray(case["scores"])[:, None])
    for name, formula in case["expected"].items():
        assert samples[name] == pytest.approx(worked_out(formula)), name


def test_a_missing_report() -> None:
    case = golden("missing")
    labels, claimed = (np.asarray(case[key], dtype=bool) for key in ("labels", "claimed"))
    missing = is_missing(case["predictions"])
    reference = reference_of(case["references"], labels)
    samples = label_samples(reference, wrong_claims(labels, claimed, missing))
    samples |= text_samples(reference, case["predictions"])
    for name, formula in case["expected"].items():
        assert samples[name] == pytest.approx(worked_out(formula)), name


def test_distances_between_surfaces() -> None:
    case = golden("surface")
    reference, predicted = (
        np.asarray(case[key], dtype=bool)[None, None] for key in ("reference", "predicted")
    )
    scores = mask_pair_scores(reference, predicted, case["spacing"])
    for name, formula in case["expected"].items():
        assert scores[name] == pytest.approx(worked_out(formula)), name
