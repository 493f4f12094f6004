"""Dice and surface distances per structure in the CT's own grid, by MONAI.

    dice                0 where only one of the two masks has the structure
    surface_distance    mean distance from either surface to the other, in mm
    hausdorff_95        95th percentile of those distances, in mm, the larger of both directions

Distances need both surfaces: they are NaN where the prediction lacks the structure, which its Dice
shows. Where the whole prediction is missing they are infinite, so that leaving one out never pays.
Structures that the reference lacks are left out.

C classes (0 is background), (D, H, W) = (z, y, x).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from uvlm.arrays import Flags
from uvlm.data.ct.grid_rules import is_on_grid
from uvlm.data.ct.volume import LabelMap
from uvlm.errors import DataError
from uvlm.evaluation.segmentation import bounding_box

if TYPE_CHECKING:
    from torch import Tensor

PERCENTILE: Final = 95.0


def structure_scores(
    reference: LabelMap, predicted: LabelMap | None, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Score every structure of the reference, in the order of the ids.

    Args:
        reference: ids on the native grid.
        predicted: ids on the same grid; None where there is no prediction.
        names: of the C classes.

    Raises:
        DataError: the grids differ.
    """
    shape = reference.array.shape
    if predicted is not None and not is_on_grid(predicted, shape, reference.affine):
        fact = f"is on another grid {predicted.array.shape} than the reference {shape}"
        raise DataError("predicted mask", fact, "compare on one grid")
    rows = []
    for number in sorted(int(n) for n in np.unique(reference.array) if n):
        scores = {"dice": 0.0, "surface_distance": np.inf, "hausdorff_95": np.inf}
        if predicted is not None:
            masks = (reference.array == number, predicted.array == number)
            scores = mask_pair_scores(*masks, reference.spacing)
        rows.append({"id": number, "name": names[number], **scores})
    return rows


def mask_pair_scores(
    reference: Flags, predicted: Flags, spacing: Sequence[float]
) -> dict[str, float]:
    """Dice, mean surface distance and 95 % Hausdorff distance of one structure.

    MONAI has a function for each distance, and each finds the two surfaces anew, which is what
    takes the time; here both are read off the same distances.

    Args:
        reference: (D, H, W), not empty.
        predicted: (D, H, W).
        spacing: of a voxel in mm, (z, y, x).
    """
    import torch
    from monai.metrics.meandice import compute_dice
    from monai.metrics.utils import get_edge_surface_distance

    # Outside the box of both masks there is no surface; a distance transform of it is not needed.
    place = bounding_box(reference | predicted)
    wanted, written = (torch.from_numpy(mask[place]) for mask in (reference, predicted))
    dice = float(compute_dice(written[None, None], wanted[None, None]))
    if not predicted.any():
        return {"dice": dice, "surface_distance": np.nan, "hausdorff_95": np.nan}
    with warnings.catch_warnings():
        # MONAI 1.6 warns of an argument that only its own code passes.
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        # Two vectors of mm: from each surface voxel of one mask to the other's surface, and back.
        _, directions, _ = get_edge_surface_distance(
            written, wanted, spacing=[*spacing], symmetric=True
        )
    return {
        "dice": dice,
        # Over the voxels of both surfaces, so the larger surface weighs more.
        "surface_distance": float(torch.cat(directions).mean()),
        "hausdorff_95": max(percentile(distances) for distances in directions),
    }


def percentile(distances: Tensor) -> float:
    """Take the 95th percentile as `torch.quantile` does, which refuses more than 2^24 numbers."""
    import torch

    rank = float(torch.tensor(PERCENTILE / 100, dtype=distances.dtype) * (distances.numel() - 1))
    below = int(rank)
    places = (below, min(below + 1, distances.numel() - 1))
    low, high = (torch.kthvalue(distances, place + 1).values for place in places)
    return float(torch.lerp(low, high, rank - below))
