"""Precision and recall at each shift, against scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from tests.evaluation.conftest import NAMES, label
from uvlm.data.cases import Case
from uvlm.errors import DataError
from uvlm.evaluation.operating_points import operating_points

HERE = Path("predictions.jsonl")


def case(number: int, flags: tuple[int, ...]) -> Case:
    name = f"case_{number}"
    return Case(name, name, f"patient_{number // 2}", "val", "", None, {}, flags, "Text.", "")


def test_points_are_what_scikit_learn_says() -> None:
    draws = np.random.default_rng(0)
    truth = draws.random((30, 3)) < 0.4
    cases = [case(n, tuple(map(int, row))) for n, row in enumerate(truth)]
    found, expected = {}, {}
    for shift in (-1.0, 0.0, 2.5):
        claimed = draws.random((30, 3)) < 0.5 + shift / 10
        texts = [" ".join([*np.array(NAMES)[row], "."]) for row in claimed]
        found[shift] = {c.case_id: text for c, text in zip(cases, texts, strict=True)}
        p, r, f, _ = precision_recall_fscore_support(truth, claimed, average="macro")
        expected[shift] = {"macro_precision": p, "macro_recall": r, "macro_f1": f}
    scored = operating_points(found, cases[::-1], NAMES, label, 50, 0, HERE)
    assert scored["n"] == 30
    for point in scored["points"]:
        for key, value in expected[point["shift"]].items():
            assert point[key] == pytest.approx(value, abs=1e-6)
            low, high = point[f"{key}_ci"]
            assert low <= point[key] <= high


@pytest.mark.parametrize(
    "found",
    [{0.0: {}}, {0.0: {"other": "x"}}, {0.0: {"case_0": "x"}, 1.0: {"case_1": "x"}}],
)
def test_reports_of_other_cases_are_refused(found: dict[float, dict[str, str]]) -> None:
    cases = [case(n, (0, 1, 0)) for n in range(2)]
    with pytest.raises(DataError, match="not of the validation split"):
        operating_points(found, cases, NAMES, label, 0, 0, HERE)
