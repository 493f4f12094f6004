"""Patient bootstrap: how far a number would move had other patients been scanned.

Patients are resampled, not cases: two reconstructions of one scan say nothing new about the model.
Every metric is a function of sums over cases, so one product of resampling weights with per-case
counts gives all samples at once. Sample 0 is the data as they are; its metric is the point
estimate, and the others give the interval, so the two can never be computed differently.

N cases, P patients, R samples drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Floats

INTERVAL_PERCENT = (2.5, 97.5)


@dataclass(frozen=True, eq=False)
class Resamples:
    """How often each case counts in each sample: `weights` is (1 + R, N), row 0 all ones."""

    weights: Floats

    def sums(self, per_case: npt.NDArray[np.generic]) -> Floats:
        """Sum over cases in each sample: (N, ...) counts become (1 + R, ...)."""
        flat = np.asarray(per_case, dtype=np.float64).reshape(len(per_case), -1)
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
    drawn = generator.multinomial(count, np.full(count, 1.0 / count), size=samples)
    weights = np.concatenate([np.ones((1, count)), drawn.astype(np.float64)])
    return Resamples(weights[:, patient_of_case])


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
    drawn = values[1:][np.isfinite(values[1:])]
    if len(drawn):
        low, high = np.percentile(drawn, INTERVAL_PERCENT)
        numbers[f"{name}_ci"] = [round(float(low), 6), round(float(high), 6)]
    return numbers
