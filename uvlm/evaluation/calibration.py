"""Whether a probability of 0.3 is right in three cases of ten: ECE, Brier score, temperature.

    p' = sigmoid(logit(p) / T)

T is fitted on validation cases (Guo et al. 2017, equation 9, with a sigmoid in place of the
softmax), one for all classes, and kept with their thresholds. It changes no order of two
probabilities, so neither AUROC nor what a threshold can reach.

All N x A pairs of a case and an abnormality count alike. A missing prediction is as wrong as can
be: a Brier score of 1 in every class, and a bin of its own that is off by 1. So leaving out a
prediction improves neither number.

N cases, A abnormalities, K bins.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from uvlm.arrays import Array, Flags, Floats
from uvlm.errors import DataError
from uvlm.evaluation.bootstrap import Resamples, Samples, with_intervals
from uvlm.evaluation.reference import Reference

NUM_BINS: Final = 10
TEMPERATURE: Final = "temperature"  # its key in thresholds.json
_BOUNDS: Final = (0.05, 20.0)  # validation cases that are all right ask for T = 0
_LEAST: Final = 5e-7  # probabilities are stored with six decimals


def fit_temperature(labels: Flags, probabilities: Floats) -> float:
    """Find the T with the least cross-entropy over (N, A) pairs, within bounds.

    In b = 1 / T the cross-entropy is convex, and its derivative, the sum of z (sigmoid(b z) - y)
    over logits z and labels y, rises from negative to positive: it is halved upon.
    """
    logits = _logit(probabilities)
    low, high = 1 / _BOUNDS[1], 1 / _BOUNDS[0]
    for _ in range(60):
        middle = (low + high) / 2
        if (logits * (_sigmoid(middle * logits) - labels)).sum() < 0:
            low = middle
        else:
            high = middle
    return 2 / (low + high)


def at_temperature(probabilities: Floats, temperature: float) -> Floats:
    """Flatten probabilities (T above 1) or sharpen them; NaN stays NaN."""
    return _sigmoid(_logit(probabilities) / temperature)


def read_temperature(thresholds: Path | None) -> float | None:
    """Read what `train_cls` fitted beside the thresholds; None if this file has none.

    Raises:
        DataError: it is no positive number.
    """
    if thresholds is None:
        return None
    try:
        value = json.loads(thresholds.read_text(encoding="utf-8")).get(TEMPERATURE)
        temperature = None if value is None else float(value)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        fact = f"no temperature can be read ({type(error).__name__}: {error})"
        raise DataError(thresholds, fact, "force the stage train_cls") from None
    if temperature is not None and not 0 < temperature < np.inf:
        raise DataError(thresholds, f"temperature is {value!r}", "it must be above 0")
    return temperature


def calibration_scores(
    reference: Reference, probabilities: Floats | None, temperature: float | None
) -> dict[str, Any]:
    """Judge (N, A) probabilities as they are and, where T is known, tempered; {} without any.

    A case without probabilities is a row of NaN. `prevalence_brier` is the Brier score of stating
    each class's share of positives for everybody, the best that a constant can have; its ECE is 0,
    so a low ECE alone proves nothing.
    """
    if probabilities is None:
        return {}
    labels, resamples = reference.labels, reference.resamples
    constant = np.broadcast_to(labels.mean(axis=0), labels.shape)
    scores = calibration_samples(labels, probabilities, resamples)
    scores["prevalence_brier"] = _mean_of_pairs((constant - labels) ** 2, resamples)
    tempered = {}
    if temperature is not None:
        changed = at_temperature(probabilities, temperature)
        both = calibration_samples(labels, changed, resamples)
        tempered = with_intervals({f"{name}_tempered": values for name, values in both.items()})
        tempered |= {"bins_tempered": reliability(labels, changed)}
    bins = reliability(labels, probabilities)
    return {TEMPERATURE: temperature, **with_intervals(scores), "bins": bins, **tempered}


def calibration_samples(labels: Flags, probabilities: Floats, resamples: Resamples) -> Samples:
    """Brier score, ECE and the mean ECE of the classes, each (1 + R,).

    ECE = sum over bins of |sum of (p - y)| / number of pairs: the distance between mean probability
    and share of positives in each bin, weighted by how many pairs are in it.
    """
    missing = np.isnan(probabilities)
    squares = np.where(missing, 1.0, (probabilities - labels) ** 2)
    off = np.where(missing, 1.0, probabilities - labels)
    bins = _bins(probabilities)[..., None] == np.arange(NUM_BINS + 1)  # (N, A, K + 1)
    sums = resamples.sums(off[..., None] * bins)  # (1 + R, A, K + 1)
    num_cases = resamples.weights.sum(axis=1)
    num_pairs = num_cases * labels.shape[1]
    by_class = np.abs(sums).sum(axis=-1) / num_cases[:, None]
    return {
        "brier": _mean_of_pairs(squares, resamples),
        "ece": np.abs(sums.sum(axis=1)).sum(axis=-1) / num_pairs,
        "macro_ece": by_class.mean(axis=-1),
    }


def reliability(labels: Flags, probabilities: Floats) -> dict[str, list[Any]]:
    """Gather what the plot shows: count, mean probability and share of positives of each bin.

    An empty bin has None for both; pairs without a probability are in no bin.
    """
    bins = _bins(probabilities)
    found: dict[str, list[Any]] = {"n": [], "mean_probability": [], "positive_share": []}
    for number in range(NUM_BINS):
        inside = bins == number
        count = int(inside.sum())
        found["n"].append(count)
        for name, values in (("mean_probability", probabilities), ("positive_share", labels)):
            mean = float(values[inside].mean()) if count else None
            found[name].append(None if mean is None else round(mean, 6))
    return found


def _bins(probabilities: Floats) -> Array:
    """Sort pairs into K bins of equal width, 1.0 into the last one, NaN into one more."""
    missing = np.isnan(probabilities)
    scaled = np.floor(np.where(missing, 0.0, probabilities) * NUM_BINS).astype(int)
    return np.where(missing, NUM_BINS, np.minimum(scaled, NUM_BINS - 1))


def _mean_of_pairs(values: Floats, resamples: Resamples) -> Floats:
    totals = resamples.sums(values.mean(axis=1))
    means: Floats = totals / resamples.weights.sum(axis=1)
    return means


def _logit(probabilities: Floats) -> Floats:
    bounded = np.clip(probabilities, _LEAST, 1 - _LEAST)
    return np.log(bounded) - np.log1p(-bounded)


def _sigmoid(logits: Floats) -> Floats:
    """Compute 1 / (1 + exp(-z)), written so that no exponential overflows."""
    return (1 + np.tanh(logits / 2)) / 2
