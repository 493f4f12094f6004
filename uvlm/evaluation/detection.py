"""Lesions detected from masks, as RadGPT detects them (Table 3 of the paper).

    1. keep the lesion voxels inside the organ
    2. resample to a grid of 1 mm, nearest voxel
    3. erode once by 3 x 3 x 3; there is no lesion beyond the grid
    4. the organ has a lesion if MORE voxels (mm3) are left than its threshold

The threshold of each organ is chosen on validation among the published candidates. A lesion of
fewer than 3 voxels in any direction of the 1 mm grid is eroded away and never found.

AbdomenAtlas has one lesion for each of three organs, as in Table 3. In the chest every category of
ReXGroundingCT is a lesion of its own, in the lung or, for the category "other", anywhere.

N cases, V validation cases, L lesions, (D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Counts, Flags, Floats, Ids
from uvlm.data.cases import Case
from uvlm.data.label_scheme import LesionSite
from uvlm.evaluation.bootstrap import Resamples, with_intervals
from uvlm.evaluation.classification import per_class_f1
from uvlm.evaluation.missing import wrong_claims
from uvlm.evaluation.scores import per_class_samples
from uvlm.evaluation.segmentation import bounding_box, mean_over_classes

CANDIDATES_MM3: Final = (*range(10, 101, 10), 150, 200, 250, 300, 500)
GRID_MM: Final = 1.0
LABELLED_ORGANS: Final = ("liver", "kidney", "pancreas")  # in the order of ABDOMEN_LESIONS


def detected_volume(tumour: Flags, organ: Flags, spacing: Sequence[float]) -> int:
    """Volume in mm3 that steps 1 to 3 leave of a lesion.

    The 1 mm grid is never built: along each axis, its voxels whose neighbourhoods of three come
    from the same native voxels are looked at once and counted as often as they occur.

    Args:
        tumour: (D, H, W) voxels of the lesion.
        organ: (D, H, W) voxels of the organ, its lesions among them.
        spacing: of a voxel in mm, (z, y, x).
    """
    inside = tumour & organ
    if not inside.any():
        return 0
    box = bounding_box(inside)
    survives: Flags = np.pad(inside[box], 1)  # the rim stands for all that is outside the box
    times = []
    for axis, (part, size, mm) in enumerate(zip(box, inside.shape, spacing, strict=True)):
        origins = np.clip(_neighbourhoods(size, mm) - part.start, 0, survives.shape[axis] - 1)
        places, counts = np.unique(origins, axis=0, return_counts=True)  # (U, 3), (U,)
        # Erosion by a cube is erosion along one axis after the other: S -> (U, 3) -> U.
        survives = np.asarray(survives.take(places, axis).all(axis + 1))
        times.append(counts)
    z, y, x = times
    return int(z @ (survives @ x @ y))  # each survivor counted for all 1 mm voxels it stands for


def _neighbourhoods(size: int, mm: float) -> npt.NDArray[np.intp]:
    """For each of S voxels of the 1 mm grid, where it and its two neighbours come from: (S, 3).

    0 and size + 1 are beyond the border.
    """
    origins = np.concatenate([[0], 1 + _nearest(size, mm), [size + 1]])
    return np.lib.stride_tricks.sliding_window_view(origins, 3)


def _nearest(size: int, mm: float) -> npt.NDArray[np.intp]:
    """Index of the voxel that holds the centre of each voxel of the 1 mm grid, along one axis.

    Both grids have the same middle; a centre on the face between two voxels takes the later one,
    whatever the last digit of a float says.
    """
    count = max(round(size * mm / GRID_MM), 1)
    centres = (np.arange(count) + 0.5 - count / 2) * GRID_MM / mm + size / 2
    return np.floor(np.round(centres, 6)).astype(np.intp)


def detected_volumes(
    label_map: Ids, spacing: Sequence[float], sites: Sequence[LesionSite]
) -> tuple[int, ...]:
    """Volume in mm3 of each of the L lesions in a label map (D, H, W)."""
    present = set(np.unique(label_map).tolist())
    organs: dict[str, Flags] = {}  # lesions share them
    volumes = [0] * len(sites)
    for number, site in enumerate(sites):
        if site.class_id in present:
            tumour = label_map == site.class_id
            if site.organ and site.organ not in organs:
                organs[site.organ] = organ_mask(label_map, site)
            volumes[number] = detected_volume(tumour, organs.get(site.organ, tumour), spacing)
    return tuple(volumes)


def organ_mask(label_map: Ids, site: LesionSite) -> Flags:
    """Find the organ of a lesion with all lesions in it, (D, H, W).

    A voxel has one class, so a lesion is a hole in its organ. The organ is every connected part of
    its tissue and its lesions together, except parts that hold none of its tissue.
    """
    from scipy.ndimage import label

    tissue = np.isin(label_map, sorted(site.organ_ids))
    lesions = np.isin(label_map, sorted(site.organ_lesion_ids))
    parts, count = label(tissue | lesions, np.ones((3, 3, 3)))  # neighbours across corners, too
    has_tissue = np.zeros(count + 1, dtype=bool)
    has_tissue[parts[tissue]] = True
    mask: Flags = has_tissue[parts]
    return mask


def lesion_labels(cases: Sequence[Case], sites: Sequence[LesionSite]) -> Flags:
    """Which lesions N cases have, (N, L): by the flags of their table, or by the findings drawn.

    AbdomenAtlas' table has a flag for each of its lesions, which reports are scored by, too.
    CT-RATE's 18 abnormalities are other classes than ReXGroundingCT's categories, which only the
    drawings tell.
    """
    wanted = [site.category for site in sites]
    if wanted == [*LABELLED_ORGANS]:
        rows: list[Sequence[int]] = [case.abnormalities for case in cases]
    else:
        drawn = [case.finding_categories.values() for case in cases]
        rows = [[category in found for category in wanted] for found in drawn]
    return np.asarray(rows, dtype=bool).reshape(len(cases), len(sites))


def choose_thresholds(volumes: Floats, labels: Flags) -> Counts:
    """Threshold of each lesion with the best F1 on validation, (L,); the lowest of equal ones.

    Args:
        volumes: (V, L) mm3 as `detected_volume` gives them.
        labels: (V, L) whether the case has the lesion.
    """
    candidates = np.asarray(CANDIDATES_MM3)
    scores = [per_class_f1(labels, volumes > threshold)[2] for threshold in candidates]
    chosen: Counts = candidates[np.argmax(scores, axis=0)]
    return chosen


def detection_scores(
    names: Sequence[str], labels: Flags, volumes: Floats, thresholds: Counts, resamples: Resamples
) -> dict[str, Any]:
    """Precision, recall and F1 of each lesion, and their means over the lesions that occur.

    Args:
        names: of the L lesions.
        labels: (N, L) whether the case has the lesion.
        volumes: (N, L) mm3; a row of NaN is a missing mask, which is wrong about every lesion.
        thresholds: (L,) mm3, chosen on validation.
        resamples: of the N cases.
    """
    missing = np.asarray(np.isnan(volumes).any(axis=1))
    claimed = wrong_claims(labels, volumes > thresholds, missing)
    samples = per_class_samples(labels, claimed, resamples)
    support = labels.sum(axis=0)
    by_lesion: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(names):
        size = int(thresholds[number])
        by_lesion[name] = {"support": int(support[number]), "threshold_mm3": size}
        if support[number]:
            of_lesion = {key: values[:, number] for key, values in samples.items()}
            by_lesion[name] |= with_intervals(of_lesion)
    occurring = np.flatnonzero(support)
    macro = {f"macro_{key}": mean_over_classes(v, occurring) for key, v in samples.items()}
    counts = {"n": len(labels), "n_lesions": len(occurring)}
    return {**counts, **with_intervals(macro), "lesions": by_lesion}
