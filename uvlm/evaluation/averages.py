"""Macro, support-weighted and micro F1, each beside the best that a constant can have.

    constant     F1 of the constant report that scores best in this average
    above        the reports' F1 minus that, on the same bootstrap samples
    num_claimed  how many abnormalities the constant claims: the most frequent ones

What a constant is worth differs between the averages, so a number says nothing until its average is
known. Which constant is best is decided by the very labels that are scored, so it is what no report
that never looked at an image can beat, whatever it was learned from. Nothing that is ours is chosen
in this way.

N cases, A abnormalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from uvlm.arrays import Flags
from uvlm.config import F1_AVERAGES
from uvlm.evaluation.bootstrap import with_intervals
from uvlm.evaluation.classification import Confusion, f1_averages
from uvlm.evaluation.labeller import READS_FOR_NOTHING
from uvlm.evaluation.reference import Reference, TextLabels
from uvlm.evaluation.scores import label_samples

LENGTH_LIMITS: Final = (128, 200, 256)  # words; the limits of published systems are of this kind


def beside_constants(reference: Reference, claimed: Flags) -> dict[str, dict[str, Any]]:
    """Compare (N, A) claims with the best constant, by the name of the average."""
    own, found = label_samples(reference, claimed), {}
    for name, constant in best_constants(reference.labels).items():
        claims = np.broadcast_to(constant, reference.labels.shape)
        samples = label_samples(reference, claims)[name]
        found[name] = {
            **with_intervals({"constant": samples, "above": own[name] - samples}),
            "num_claimed": int(constant.sum()),
        }
    return found


def best_constants(labels: Flags) -> dict[str, Flags]:
    """Find what a constant report has to claim, (A,), for the best F1 in each average.

    With n_c positives among N cases, a claimed class has F1 = 2 n_c / (n_c + N), an unclaimed one
    0, and claiming the set S has micro-F1 = 2 sum_S n_c / (sum n_c + |S| N). So of all sets of k
    classes the k most frequent are best in every average, and trying each k finds the best of all
    2^A. Of equal sets the largest is taken.
    """
    positives = labels.sum(axis=0)
    order = np.argsort(-positives, kind="stable")
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    sets = places < np.arange(len(order) + 1)[:, None]  # (A + 1, A): the k most frequent, each k
    hits, alarms = np.where(sets, positives, 0), np.where(sets, len(labels) - positives, 0)
    scores = f1_averages(Confusion(hits, alarms, np.where(sets, 0, positives)))
    largest = {name: len(f1) - 1 - int(np.argmax(f1[::-1])) for name, f1 in scores.items()}
    return {name: sets[size] for name, size in largest.items()}


def length_limits(reference: Reference, label: TextLabels) -> dict[str, Any]:
    """Score the references cut after so many words: what a limit of length costs by itself.

    `cut_share` is the share of references that are longer. A labeller that costs money or minutes
    is not asked three times more.
    """
    if label.name not in READS_FOR_NOTHING:
        return {"not_computed": f"the labeller {label.name} would read every reference again"}
    return {str(limit): _cut(reference, label, limit) for limit in LENGTH_LIMITS}


def cut_to(texts: Sequence[str], limit: int) -> list[str]:
    """Keep the first `limit` words of each text; a text that has no more stays as it is."""
    words = (text.split() for text in texts)
    return [
        " ".join(each[:limit]) if len(each) > limit else text
        for each, text in zip(words, texts, strict=True)
    ]


def _cut(reference: Reference, label: TextLabels, limit: int) -> dict[str, Any]:
    texts = cut_to(reference.texts, limit)
    samples = label_samples(reference, label(texts))
    longer = sum(text != whole for text, whole in zip(texts, reference.texts, strict=True))
    averages = {name: samples[name] for name in F1_AVERAGES}
    return {"cut_share": round(longer / len(texts), 6), **with_intervals(averages)}
