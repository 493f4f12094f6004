"""Lesions detected from masks, as RadGPT detects them (Table 3 of the paper).

    1. keep the lesion voxels that lie in the organ
    2. take the nearest voxel on a grid of 1 mm
    3. erode once by 3 x 3 x 3; what lies beyond the grid is no lesion
    4. the organ has a lesion if MORE voxels (mm3) are left than its threshold

The threshold of each organ is chosen on validation among the published candidates. A lesion of
fewer than 3 voxels in any direction of the 1 mm grid is eroded away and never found.

N cases, V validation cases, O organs, (D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.data.label_scheme import LabelScheme
from uvlm.evaluation.bootstrap import Resamples, with_interval
from uvlm.evaluation.classification import per_class_f1
from uvlm.evaluation.scores import per_class_samples

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
CANDIDATES_MM3: Final = (*range(10, 101, 10), 150, 200, 250, 300, 500)
GRID_MM: Final = 1.0


def detected_volume(tumour: Flags, organ: Flags, spacing: Sequence[float]) -> int:
    """Volume in mm3 that steps 1 to 3 leave of a lesion.

    Args:
        tumour: (D, H, W) voxels of the lesion.
        organ: (D, H, W) voxels of the organ, its lesions among them.
        spacing: of a voxel in mm, (z, y, x).
    """
    from scipy.ndimage import binary_erosion

    z, y, x = (_nearest(size, mm) for size, mm in zip(tumour.shape, spacing, strict=True))
    inside = (tumour & organ)[np.ix_(z, y, x)]
    return int(binary_erosion(inside, np.ones((3, 3, 3), dtype=bool)).sum())


def _nearest(size: int, mm: float) -> npt.NDArray[np.intp]:
    """Index of the voxel that holds the centre of each voxel of the 1 mm grid, along one axis.

    Both grids have the same middle; a centre on the face between two voxels takes the later one,
    whatever the last digit of a float says.
    """
    count = max(round(size * mm / GRID_MM), 1)
    centres = (np.arange(count) + 0.5 - count / 2) * GRID_MM / mm + size / 2
    return np.floor(np.round(centres, 6)).astype(np.intp)


def detected_volumes(
    label_map: npt.NDArray[np.uint8], spacing: Sequence[float], classes: LabelScheme
) -> dict[str, int]:
    """Volume of each lesion of a label map in mm3.

    A label map gives a voxel one class and a lesion's class belongs to its organ, so that step 1
    takes nothing away; masks of separate files go through `detected_volume`.
    """
    volumes = {}
    for number in sorted(classes.lesion_ids):
        tumour = label_map == number
        volumes[classes.names[number]] = detected_volume(tumour, tumour, spacing)
    return volumes


def choose_thresholds(volumes: Counts, labels: Flags) -> Counts:
    """Threshold of each organ with the best F1 on validation, (O,); the lowest of equal ones.

    Args:
        volumes: (V, O) mm3 as `detected_volume` gives them.
        labels: (V, O) whether the organ has a lesion.
    """
    candidates = np.asarray(CANDIDATES_MM3)
    scores = [per_class_f1(labels, volumes > threshold)[2] for threshold in candidates]
    chosen: Counts = candidates[np.argmax(scores, axis=0)]
    return chosen


def detection_scores(
    organs: Sequence[str],
    labels: Flags,
    volumes: Counts,
    thresholds: Counts,
    resamples: Resamples,
) -> dict[str, Any]:
    """Precision, recall and F1 of each organ, and their means over organs.

    Args:
        organs: the O organs.
        labels: (N, O) whether the organ has a lesion.
        volumes: (N, O) mm3.
        thresholds: (O,) mm3, chosen on validation.
        resamples: of the N cases.
    """
    samples = per_class_samples(labels, volumes > thresholds, resamples)
    by_organ: dict[str, Mapping[str, Any]] = {}
    for number, organ in enumerate(organs):
        scores: dict[str, Any] = {
            "support": int(labels[:, number].sum()),
            "threshold_mm3": int(thresholds[number]),
        }
        for name, values in samples.items():
            scores |= with_interval(name, values[:, number])
        by_organ[organ] = scores
    macro: dict[str, Any] = {"n": len(labels)}
    for name, values in samples.items():
        macro |= with_interval(f"macro_{name}", values.mean(axis=1))
    return {**macro, "organs": by_organ}
