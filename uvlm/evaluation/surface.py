"""Dice and surface distances per structure in the CT's own grid, by MONAI.

    dice                overlap; 0 where only one of the two masks has the structure
    surface_distance    mean of the distances from either surface to the other, in mm
    hausdorff_95        95th percentile of them, in mm, the larger of both directions

Distances need both surfaces: they are NaN where the prediction has none, and such a structure shows
in its Dice. Structures that the reference lacks are left out.

C classes (0 is background), (D, H, W) = (z, y, x).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.data.volume import LabelMap
from uvlm.errors import DataError

PERCENTILE: Final = 95.0


def structure_scores(
    reference: LabelMap, predicted: LabelMap, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Score every structure of the reference, in the order of the ids.

    Args:
        reference: ids on the native grid.
        predicted: ids on the same grid.
        names: of the C classes.

    Raises:
        DataError: the grids differ.
    """
    same = reference.array.shape == predicted.array.shape
    if not same or not np.allclose(reference.affine, predicted.affine, atol=1e-3):
        fact = f"grid {predicted.array.shape}, the reference {reference.array.shape}"
        raise DataError(
            "predicted mask", fact + ("" if same else "; resample it"), "compare on one grid"
        )
    rows = []
    for number in sorted(int(n) for n in np.unique(reference.array) if n):
        masks = (reference.array == number, predicted.array == number)
        scores = mask_pair_scores(*masks, reference.spacing)
        rows.append({"id": number, "name": names[number], **scores})
    return rows


def mask_pair_scores(
    reference: npt.NDArray[np.bool_], predicted: npt.NDArray[np.bool_], spacing: Sequence[float]
) -> dict[str, float]:
    """Dice, mean surface distance and 95 % Hausdorff distance of one structure.

    Args:
        reference: (D, H, W), not empty.
        predicted: (D, H, W).
        spacing: of a voxel in mm, (z, y, x).
    """
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.meandice import compute_dice
    from monai.metrics.surface_distance import compute_average_surface_distance

    written, wanted = (torch.from_numpy(mask)[None, None] for mask in (predicted, reference))
    scores = {"dice": float(compute_dice(written, wanted)), "surface_distance": np.nan}
    scores["hausdorff_95"] = np.nan
    if predicted.any():
        distance: dict[str, Any] = {"include_background": True, "spacing": list(spacing)}
        with warnings.catch_warnings():
            # MONAI 1.6 warns of an argument that only its own code passes.
            warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
            mean = compute_average_surface_distance(written, wanted, symmetric=True, **distance)
            far = compute_hausdorff_distance(written, wanted, percentile=PERCENTILE, **distance)
        scores |= {"surface_distance": float(mean), "hausdorff_95": float(far)}
    return scores
