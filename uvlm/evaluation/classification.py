"""Abnormalities found and missed: macro P/R/F1, F1 in two other averages, CRG, AUROC, AUPRC.

Macro values are the unweighted mean of the per-class values, and 0/0 counts as 0, as in CT-RATE's
official scorer; macro-F1 is the mean of F1s, not the F1 of mean precision and recall. Published
systems average in three ways, and the numbers cannot be compared across them:

    macro       mean of the classes' F1
    weighted    mean of the classes' F1, each class as often as it has positives
    micro       F1 of the hits, false alarms and misses of all classes together

N cases, A abnormalities; `...` is any leading shape, such as bootstrap samples.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from uvlm.arrays import Array, Flags, Floats
from uvlm.config import F1_AVERAGES


class Confusion(NamedTuple):
    """True positives, false positives and false negatives, each (..., A)."""

    tp: Array
    fp: Array
    fn: Array

    @classmethod
    def per_case(cls, labels: Flags, claimed: Flags) -> Self:
        """Compare case by case: (N, A) flags, to be summed over cases."""
        return cls(labels & claimed, ~labels & claimed, labels & ~claimed)


def precision_recall_f1(counts: Confusion) -> tuple[Floats, Floats, Floats]:
    """Per-class precision, recall and F1, each (..., A), 0 where undefined."""
    tp, fp, fn = counts
    return (_share(tp, tp + fp), _share(tp, tp + fn), _share(2 * tp, 2 * tp + fp + fn))


def per_class_f1(labels: Flags, claimed: Flags) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of each class over all cases, each (A,)."""
    counts = Confusion.per_case(labels, claimed)
    return precision_recall_f1(Confusion(*(part.sum(axis=0) for part in counts)))


def f1_averages(counts: Confusion) -> dict[str, Floats]:
    """F1 over all classes in three averages, each (...,), by the name of its metric."""
    f1 = precision_recall_f1(counts)[2]
    positives = counts.tp + counts.fn
    together = Confusion(*(part.sum(axis=-1, keepdims=True) for part in counts))
    weighted = _share((f1 * positives).sum(axis=-1), positives.sum(axis=-1))
    micro = precision_recall_f1(together)[2][..., 0]
    return dict(zip(F1_AVERAGES, (f1.mean(axis=-1), weighted, micro), strict=True))


def crg(counts: Confusion, num_cases: Floats) -> Floats:
    """CRG of summed counts: (...,). All-negative and all-positive both give 1/3, perfect gives 1.

    With X = cases x classes and A positives, a hit earns r = (X - A) / 2A, a miss costs r, a false
    alarm costs 1; the score s enters as U / (2U - s), U = (X - A) / 2.
    """
    tp, fp, fn = (part.sum(axis=-1) for part in counts)  # over classes: (..., A) -> (...,)
    positives = tp + fn
    negatives = num_cases * counts.tp.shape[-1] - positives  # X - A, so U is half of it
    reward = _share(negatives, 2 * positives)
    return _share(negatives / 2, negatives - (reward * (tp - fn) - fp))


def ranking(labels: Flags, scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """AUROC and average precision of every class in every sample, each (R, A).

    NaN where a sample has no positive, or for AUROC no negative, of the class. Tied scores count
    half for AUROC and form one threshold for average precision.

    Args:
        labels: (N, A) truth.
        scores: (N, A), higher means more likely present.
        weights: (R, N) how often each case counts in each sample.
    """
    columns = zip(labels.T, scores.T, strict=True)
    per_class = [_ranking_of_class(truth, score, weights) for truth, score in columns]
    auroc, precision = np.stack(per_class, axis=-1)  # A pairs of (R,) -> (2, R, A)
    return auroc, precision


def _share(part: Array, whole: Array) -> Floats:
    return np.divide(part, whole, out=np.zeros(whole.shape), where=whole > 0)


def _ranking_of_class(labels: Flags, scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """AUROC and average precision of one class, each (R,)."""
    order = np.argsort(-scores, kind="stable")
    # Tied cases form one group: no threshold can part them. T groups, from the highest score down.
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
    positive = np.add.reduceat(np.where(labels, weights, 0.0)[:, order], starts, axis=1)  # (R, T)
    negative = np.add.reduceat(np.where(labels, 0.0, weights)[:, order], starts, axis=1)
    hits, alarms = positive.cumsum(axis=1), negative.cumsum(axis=1)
    num_positive, num_negative = hits[:, -1], alarms[:, -1]
    # AUROC counts the negatives ranked under each positive; a negative of the same tie is half one.
    below = num_negative[:, None] - alarms + negative / 2
    wins = (positive * below).sum(axis=1)
    found = (positive * _share(hits, hits + alarms)).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return wins / (num_positive * num_negative), found / num_positive
