"""The CT slice a page shows: the axial slice of the test split with the largest lesion area.

(D, H, W) = (z, y, x), x to Left and y to Posterior: shown with row 0 on top, the patient's right
is on the left, as radiologists look at it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Ids
from uvlm.data.label_scheme import LabelScheme
from uvlm.errors import DataError
from uvlm.store import Row, load_array, resolve, rows_by_case

SHORTLIST = 12


@dataclass(frozen=True, eq=False)
class MaskedSlice:
    """One axial slice: Hounsfield units, true and predicted ids, all (H, W)."""

    case_id: str
    z: int
    image: npt.NDArray[np.int16]
    true: Ids
    predicted: Ids


def choose_slice(
    case_ids: Sequence[str],
    classes: LabelScheme,
    preprocess: Path,
    label_maps: Path,
    generated_masks: Path,
) -> MaskedSlice:
    """Look at the cases with most lesion voxels and take their slice with most of them.

    Raises:
        DataError: no test case has an image, a label map and a predicted mask.
    """
    images, truths, masks = map(rows_by_case, (preprocess, label_maps, generated_masks))
    able = [case for case in case_ids if case in images and case in truths and case in masks]
    if not able:
        raise DataError(generated_masks, "no test case has image, label map and predicted mask")
    able.sort(key=lambda case: (-_lesion_voxels(truths[case], classes.lesion_ids), case))
    areas: list[tuple[int, str, int]] = []
    for case in able[:SHORTLIST]:
        area = np.isin(_load(truths[case], "label_maps"), sorted(classes.lesion_ids)).sum((1, 2))
        areas.append((int(area.max()), case, int(area.argmax())))
    _, case_id, z = max(areas, key=lambda item: item[0])
    return MaskedSlice(
        case_id,
        z,
        _load(images[case_id], "preprocess")[z].astype(np.int16),
        _load(truths[case_id], "label_maps")[z].astype(np.uint8),
        _load(masks[case_id], "generate")[z].astype(np.uint8),
    )


def _lesion_voxels(row: Row, lesion_ids: Collection[int]) -> int:
    voxels = row.extra.get("voxels", {})
    return sum(int(voxels.get(str(number), 0)) for number in lesion_ids)


def _load(row: Row, stage: str) -> npt.NDArray[np.generic]:
    return load_array(resolve(row, stage), row.sha256)
