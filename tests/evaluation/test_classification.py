from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.conftest import reference_without_texts
from uvlm.arrays import Flags
from uvlm.evaluation.classification import (
    Confusion,
    crg,
    precision_recall_f1,
    ranking,
)
from uvlm.evaluation.scores import class_counts


def random_labels(seed: int, cases: int = 40, classes: int = 5) -> tuple[Flags, Flags]:
    rng = np.random.default_rng(seed)
    return rng.random((cases, classes)) < 0.3, rng.random((cases, classes)) < 0.4


def summed(labels: Flags, claimed: Flags) -> Confusion:
    return Confusion(*(part.sum(axis=0) for part in Confusion.per_case(labels, claimed)))


def crg_of(labels: Flags, claimed: Flags) -> float:
    return float(crg(summed(labels, claimed), np.asarray(float(len(labels)))))


@pytest.mark.parametrize("seed", range(4))
def test_macro_scores_equal_scikit_learn(seed: int) -> None:
    from sklearn.metrics import precision_recall_fscore_support

    labels, claimed = random_labels(seed)
    labels[:, 0], claimed[:, 1], claimed[:, 0] = False, False, False
    expected = precision_recall_fscore_support(labels, claimed, average=None, zero_division=0)
    for mine, theirs in zip(precision_recall_f1(summed(labels, claimed)), expected, strict=False):
        np.testing.assert_allclose(mine, theirs)


def test_crg_of_constant_answers_is_one_third_and_of_perfect_answers_one() -> None:
    labels, _ = random_labels(seed=1)
    assert crg_of(labels, np.zeros_like(labels)) == pytest.approx(1 / 3)
    assert crg_of(labels, np.ones_like(labels)) == pytest.approx(1 / 3)
    assert crg_of(labels, labels) == pytest.approx(1.0)


def test_crg_matches_a_hand_worked_table() -> None:
    # X = 8, A = 2: r = 1.5, U = 3. One hit, one miss, one false alarm: s = -1, so 3 / (6 + 1).
    labels = np.array([[1, 0], [1, 0], [0, 0], [0, 0]], dtype=bool)
    claimed = np.array([[1, 1], [0, 0], [0, 0], [0, 0]], dtype=bool)
    assert crg_of(labels, claimed) == pytest.approx(3 / 7)


@pytest.mark.parametrize("levels", [3, 1000])
def test_ranking_equals_scikit_learn_with_and_without_ties(levels: int) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(levels)
    labels = rng.random((60, 4)) < 0.3
    scores = rng.integers(0, levels, (60, 4)) / levels
    auroc, auprc = ranking(labels, scores, np.ones((1, 60)))
    np.testing.assert_allclose(auroc[0], roc_auc_score(labels, scores, average=None))
    np.testing.assert_allclose(auprc[0], average_precision_score(labels, scores, average=None))


def test_weighted_ranking_is_the_ranking_of_repeated_cases() -> None:
    rng = np.random.default_rng(5)
    labels, scores = rng.random((30, 2)) < 0.4, rng.integers(0, 6, (30, 2)) / 6
    weights = rng.integers(0, 4, (1, 30))
    weighted = ranking(labels, scores, weights.astype(float))
    rows = np.repeat(np.arange(30), weights[0])
    repeated = ranking(labels[rows], scores[rows], np.ones((1, len(rows))))
    np.testing.assert_allclose(weighted, repeated)


def test_a_class_without_positives_has_no_auroc() -> None:
    auroc, auprc = ranking(np.zeros((3, 1), bool), np.array([[0.1], [0.2], [0.3]]), np.ones((1, 3)))
    assert np.isnan(auroc).all()
    assert np.isnan(auprc).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sets(st.integers(0, 39)))
def test_deleting_answers_never_raises_recall(seed: int, deleted: set[int]) -> None:
    labels, claimed = random_labels(seed)
    fewer = claimed.copy()
    fewer[sorted(deleted)] = False
    before, after = (precision_recall_f1(summed(labels, c))[1] for c in (claimed, fewer))
    assert (after <= before).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sets(st.integers(0, 39)))
def test_deleting_right_answers_never_raises_any_metric(seed: int, deleted: set[int]) -> None:
    labels, claimed = random_labels(seed)
    right = [row for row in deleted if not (claimed[row] & ~labels[row]).any()]
    fewer = claimed.copy()
    fewer[right] = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = [*precision_recall_f1(summed(labels, claimed)), crg_of(labels, claimed)]
        after = [*precision_recall_f1(summed(labels, fewer)), crg_of(labels, fewer)]
    for old, new in zip(before, after, strict=True):
        assert np.all(np.asarray(new) <= np.asarray(old) + 1e-12)


def test_classes_are_counted_by_the_kinds_of_cases_that_they_have() -> None:
    labels = np.array([[1, 1, 0], [1, 0, 0]], dtype=bool)  # always, once, never
    assert class_counts(reference_without_texts(labels)) == {
        "n": 3,
        "n_positive": 2,
        "n_both": 1,
        "without_positives": ["emphysema"],
    }
