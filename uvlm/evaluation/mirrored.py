"""Whether reports of mirrored CTs say the other side: a check that sides are read from the image.

    n          abnormalities that both reports of a case name, each on one side
    swapped    share of them with the other side in the report of the mirrored CT
    kept       share with the same side, which a model writes that does not look

N cases, A abnormalities, R bootstrap samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from uvlm.arrays import Floats
from uvlm.evaluation.bootstrap import Resamples, with_interval
from uvlm.text.attributes import AttributeReader, said

_OTHER: Final = {"right": "left", "left": "right"}


def side_swaps(
    as_they_are: Sequence[str],
    mirrored: Sequence[str],
    read: AttributeReader,
    names: Sequence[str],
    resamples: Resamples,
) -> dict[str, Any]:
    """Compare the sides that two reports of the same N cases write.

    Args:
        as_they_are: reports of the CTs.
        mirrored: reports of the same CTs, left and right exchanged.
        read: reads sides out of a report.
        names: the A abnormalities.
        resamples: (1 + R, N) draws of patients.
    """
    swapped, kept = np.zeros(len(as_they_are)), np.zeros(len(as_they_are))
    for case, texts in enumerate(zip(as_they_are, mirrored, strict=True)):
        sides = [_sides(read(text), names) for text in texts]
        for one, other in zip(*sides, strict=True):
            swapped[case] += one in _OTHER and other == _OTHER[one]
            kept[case] += one in _OTHER and other == one
    total: Floats = resamples.sums(swapped + kept)
    numbers: dict[str, Any] = {"n": int(total[0])}
    for name, counts in {"swapped": swapped, "kept": kept}.items():
        share = np.full_like(total, np.nan)
        np.divide(resamples.sums(counts), total, out=share, where=total > 0)
        numbers |= with_interval(name, share)
    return numbers


def _sides(described: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [said("side", described[name].side) if name in described else "" for name in names]
