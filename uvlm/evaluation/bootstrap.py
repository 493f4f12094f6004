"""Patient bootstrap: how far a number would move had other patients been scanned.

Patients are resampled, not cases: two reconstructions of one scan say nothing new about the model.
Every metric is a function of sums over cases, so one product of resampling weights and per-case
counts gives all samples at once. Sample 0 is the data as they are: its metric is the point
estimate, and the others give the interval, so the two cannot be computed differently.

N cases, P patients, R samples drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Floats

Samples = dict[str, Floats]  # metric to (1 + R,)
INTERVAL_PERCENT = (2.5, 97.5)


@dataclass(frozen=True, eq=False)
class Resamples:
    """How often each case counts in each sample: `weights` is (1 + R, N), row 0 all ones."""

    weights: Floats

    def sums(self, per_case: npt.NDArray[np.generic]) -> Floats:
        """Sum over cases in each sample: (N, ...) counts become (1 + R, ...)."""
        flat = np.asarray(per_case, dtype=np.float64).reshape(len(per_case), -1)
        # (1 + R, N) @ (N, K): one BLAS call instead of a loop over samples
        return (self.weights @ flat).reshape(len(self.weights), *per_case.shape[1:])

    def means(self, per_case: Floats) -> Floats:
        """Average over the cases that have a value: (N,) with NaN becomes (1 + R,)."""
        known = np.isfinite(per_case)
        totals = self.sums(np.where(known, per_case, 0.0))
        counts = self.sums(known)
        return np.divide(totals, counts, out=np.full_like(totals, np.nan), where=counts > 0)


def draw_resamples(
    patient_ids: Sequence[str], samples: int, generator: np.random.Generator
) -> Resamples:
    """Draw patients with replacement; all cases of a patient come along.

    Args:
        patient_ids: the patient of each case.
        samples: how many times to draw; 0 leaves only the data as they are.
        generator: the only source of randomness.
    """
    patients, patient_of_case = np.unique(np.asarray(patient_ids), return_inverse=True)
    count = len(patients)
    # How often each of P patients comes up in P draws with replacement: (R, P).
    drawn = generator.multinomial(count, np.full(count, 1.0 / count), size=samples)
    weights = np.concatenate([np.ones((1, count)), drawn.astype(np.float64)])
    return Resamples(weights[:, patient_of_case])  # (1 + R, P) -> (1 + R, N)


def with_interval(name: str, values: Floats) -> dict[str, float | list[float] | None]:
    """`{name: point}` and, where samples were drawn, `{name}_ci: [low, high]`.

    Args:
        name: key of the metric.
        values: (1 + R,) the metric in every sample; NaN where a sample does not define it. An
            undefined point is None.
    """
    if not np.isfinite(values[0]):
        return {name: None}
    numbers: dict[str, float | list[float] | None] = {name: round(float(values[0]), 6)}
    drawn = values[1:][np.isfinite(values[1:])]  # a sample without positives defines no AUROC
    if len(drawn):
        low, high = np.percentile(drawn, INTERVAL_PERCENT)
        numbers[f"{name}_ci"] = [round(float(low), 6), round(float(high), 6)]
    return numbers


def with_intervals(samples: Mapping[str, Floats]) -> dict[str, Any]:
    """Turn every metric into its point and its interval."""
    numbers: dict[str, Any] = {}
    for name, values in samples.items():
        numbers |= with_interval(name, values)
    return numbers


def paired_differences(first: Samples, second: Samples) -> dict[str, dict[str, Any]]:
    """First minus second for every metric, with its interval and two-sided p.

    Both are scored on the same resampled patients, so a sample that is easy is easy for both, and
    that cancels: the interval of the difference is narrower than the two intervals suggest.

    Args:
        first: metric to (1 + R,), as `report_samples` returns it.
        second: the same metrics on the same resamples.
    """
    return {
        name: {
            "first": round(float(first[name][0]), 6),
            "second": round(float(second[name][0]), 6),
            **with_interval("difference", first[name] - second[name]),
            "p": two_sided_p(first[name] - second[name]),
        }
        for name in first
    }


def two_sided_p(differences: Floats) -> float | None:
    """Twice the share of samples on the rarer side of zero; None without samples.

    Never below 1 / R, the smallest p that R samples can tell.
    """
    drawn = differences[1:][np.isfinite(differences[1:])]
    if not len(drawn):
        return None
    rarer = min(float(np.mean(drawn <= 0)), float(np.mean(drawn >= 0)))
    return round(min(max(2 * rarer, 1 / len(drawn)), 1.0), 6)
