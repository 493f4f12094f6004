"""Dice per structure, and its mean over classes.

A structure counts only in cases whose reference has it; one that the model adds elsewhere costs
voxels of the classes it covers, nothing more. A missing mask scores 0.

N cases, C classes (0 is background), (D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from uvlm.arrays import Counts, Flags, Floats, Ids
from uvlm.data.label_scheme import IGNORE_ID
from uvlm.errors import DataError

DICE_RULE: Final = "mean over the classes present in the reference of a case, then over cases"


def overlap_counts(case_id: str, reference: Ids, predicted: Ids | None, num_classes: int) -> Counts:
    """Voxels per class in the intersection, the reference and the prediction: (3, C).

    Voxels where the reference is IGNORE_ID are left out.

    Raises:
        DataError: the two grids differ, or a label is not a class.
    """
    predicted = np.zeros_like(reference) if predicted is None else predicted
    if predicted.shape != reference.shape:
        fact = f"predicted mask has grid {predicted.shape}, the label map {reference.shape}"
        raise DataError(case_id, fact, "force the stage generate")
    ignored = reference == IGNORE_ID
    if ignored.any():
        reference, predicted = reference[~ignored], predicted[~ignored]
    # Where both agree, either one's ids count the intersection.
    labels = (reference[reference == predicted], reference.ravel(), predicted.ravel())
    parts = [np.bincount(ids, minlength=num_classes) for ids in labels]
    largest = max(map(len, parts)) - 1  # bincount grows beyond minlength for a larger id
    if largest >= num_classes:
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


def bounding_box(mask: Flags) -> tuple[slice, ...]:
    """Find the smallest box that holds all of a mask, which must not be empty."""
    axes = range(mask.ndim)
    places = [np.flatnonzero(mask.any(axis=(*{*axes} - {axis},))) for axis in axes]
    return tuple(slice(int(found[0]), int(found[-1]) + 1) for found in places)
