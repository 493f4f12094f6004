"""Paired bootstrap: whether two sets of reports differ on the same patients.

Both are scored on the same resampled patients, so what makes a sample easy is easy for both and
cancels; the interval of the difference is narrower than the two intervals suggest.

R bootstrap samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from uvlm.arrays import Floats
from uvlm.evaluation.bootstrap import with_interval
from uvlm.evaluation.scores import Samples


def paired_differences(first: Samples, second: Samples) -> dict[str, dict[str, Any]]:
    """First minus second for every metric, with its interval and two-sided p.

    Args:
        first: metric to (1 + R,), as `Reference.report_samples` gives it.
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

    Never below 1 / R: so few samples cannot tell a smaller one.
    """
    drawn = differences[1:]
    if not len(drawn):
        return None
    rarer = min(float(np.mean(drawn <= 0)), float(np.mean(drawn >= 0)))
    return round(min(max(2 * rarer, 1 / len(drawn)), 1.0), 6)
