"""Dice per structure, and its means over anatomy and over lesions.

A case counts a structure only where the reference has it; a structure the model adds where the
reference has none costs voxels of the classes it covers, nothing more. A missing mask scores 0.

N cases, C classes (0 is background), (D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Counts, Floats
from uvlm.data.label_scheme import IGNORE_ID
from uvlm.errors import DataError

DICE_RULE: Final = "mean over the classes present in the reference of a case, then over cases"


def overlap_counts(
    case_id: str,
    reference: npt.NDArray[np.uint8],
    predicted: npt.NDArray[np.uint8] | None,
    num_classes: int,
) -> Counts:
    """Voxels per class in the intersection, the reference and the prediction: (3, C).

    Voxels where the reference is IGNORE_ID are not looked at.

    Raises:
        DataError: the two grids differ, or a label is not a class.
    """
    if predicted is None:
        predicted = np.zeros_like(reference)
    if predicted.shape != reference.shape:
        raise DataError(
            case_id,
            f"predicted mask has grid {predicted.shape}, the label map {reference.shape}",
            "force the stage generate",
        )
    ignored = reference == IGNORE_ID
    if ignored.any():
        reference, predicted = reference[~ignored], predicted[~ignored]
    parts = [
        np.bincount(labels, minlength=num_classes)
        for labels in (reference[reference == predicted], reference.ravel(), predicted.ravel())
    ]
    if max(len(part) for part in parts) > num_classes:
        largest = max(len(part) for part in parts) - 1
        raise DataError(case_id, f"label {largest} but the scheme has {num_classes} classes")
    return np.stack(parts).astype(np.int64)


def dice_of_present(counts: Counts) -> Floats:
    """Dice where the reference has the class, NaN elsewhere: (..., 3, C) -> (..., C)."""
    intersection, reference, predicted = np.moveaxis(counts, -2, 0)
    dice = np.full(reference.shape, np.nan)
    np.divide(2.0 * intersection, reference + predicted, out=dice, where=reference > 0)
    return dice


def mean_over_classes(dice: Floats, class_ids: Iterable[int]) -> Floats:
    """Average each row over the classes it has a value for, NaN if none: (N, C) -> (N,)."""
    chosen = dice[:, sorted(class_ids)]
    known = np.isfinite(chosen)
    totals, counts = np.where(known, chosen, 0.0).sum(axis=1), known.sum(axis=1)
    means: Floats = np.divide(totals, counts, out=np.full(len(dice), np.nan), where=counts > 0)
    return means


def bounding_box(mask: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """Find the smallest part of a grid that holds all of a mask that is not empty."""
    kept = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        places = np.flatnonzero(mask.any(axis=others))
        kept.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(kept)
