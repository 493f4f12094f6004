"""Contradictions between reports and their classifier: by hand, and on known reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.evaluation.test_beyond_presence import PHANTOM, random_reports, reference_of
from uvlm.arrays import Floats
from uvlm.evaluation.baselines import Seen
from uvlm.evaluation.contradictions import contradictions, contradicts
from uvlm.pages.beyond_presence import contradictions_remark
from uvlm.text.abnormalities import ABNORMALITIES

A = len(ABNORMALITIES)
EFFUSION, EMPHYSEMA, NODULE = map(
    ABNORMALITIES.index, ("Pleural effusion", "Emphysema", "Lung nodule")
)
TEXT = "There is a small pleural effusion on the left. No emphysema is seen. The bones are intact."


def counted(texts: Sequence[str], p: Floats, threshold: float = 0.5, samples: int = 0) -> Any:
    reference = reference_of(texts, PHANTOM, samples)
    seen = Seen(p, np.full(A, threshold), ())
    return contradictions(reference, texts, seen, "phantom" if samples else "rules")


def test_a_report_is_counted_as_by_hand() -> None:
    p = np.full((1, A), 0.1)
    p[0, [EFFUSION, EMPHYSEMA, NODULE]] = 0.2, 0.9, 0.8
    found = counted([TEXT], p)
    expected = {"n": A, "named": 2, "contradicted": 2, "claimed_against": 1, "denied_against": 1}
    assert {name: found[name] for name in expected} == expected
    assert (found["silent"], found["read_by"]) == (1, "rules")
    assert found["share"] == found["reference_share"] == pytest.approx(2 / A, abs=1e-6)


def test_a_pair_that_is_claimed_and_denied_counts_once() -> None:
    both = "There is a pleural effusion. No emphysema. No pleural effusion is seen on the right."
    for probability, side in ((0.9, "denied_against"), (0.1, "claimed_against")):
        p = np.full((1, A), 0.1)
        p[0, EFFUSION] = probability
        found = counted([both], p)
        assert (found["contradicted"], found[side]) == (1, 1)


def test_a_threshold_itself_says_yes_as_in_every_score() -> None:
    assert not contradicts(True, 0.5, 0.5)
    assert contradicts(False, 0.5, 0.5)
    assert not contradicts(False, 0.49, 0.5)


def test_scans_without_report_or_probabilities_are_left_out() -> None:
    p = np.full((3, A), 0.9)
    p[1] = np.nan
    found = counted([TEXT, TEXT, ""], p)
    assert found["n"] == A
    assert found["silent"] == A - 2
    empty = counted([TEXT], np.full((1, A), np.nan))
    assert empty["n"] == 0
    assert "share" not in empty or empty["share"] is None
    nothing = contradictions(
        reference_of([TEXT], PHANTOM), [TEXT], Seen(None, np.full(A, 0.5), ()), "rules"
    )
    assert "no probabilities" in nothing["not_computed"]
    for each in (found, empty, nothing):
        assert contradictions_remark({"contradictions": each})


def test_who_believes_what_reports_claim_is_not_contradicted_by_claims() -> None:
    texts = random_reports(40, seed=2)
    claimed = PHANTOM.anywhere(texts)  # another way of reading than sentence by sentence
    agreed = counted(texts, np.where(claimed, 0.9, 0.1), samples=50)
    assert agreed["claimed_against"] == 0
    opposed = counted(texts, np.where(claimed, 0.1, 0.9), samples=50)
    assert opposed["claimed_against"] == claimed.sum()
    assert opposed["silent"] + opposed["denied_against"] >= (~claimed).sum()
    low, high = opposed["share_ci"]
    assert low <= opposed["share"] <= high
    assert opposed["share"] == pytest.approx(opposed["contradicted"] / opposed["n"], abs=1e-6)
