"""The CT slice that a page shows: the axial slice of the test split with the largest lesion area.

(D, H, W) = (z, y, x), x towards Left and y towards Posterior: with row 0 on top, the patient's
right is on the left, as radiologists view it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Array, Ids
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
    """Of the cases with most lesion voxels, take the slice with most of them.

    Raises:
        DataError: no test case has an image, a label map and a predicted mask.
    """
    images, truths, masks = map(rows_by_case, (preprocess, label_maps, generated_masks))
    lesions = sorted(classes.lesion_ids)
    able = [case for case in case_ids if case in images and case in truths and case in masks]
    if not able:
        raise DataError(generated_masks, "no test case has image, label map and predicted mask")
    able.sort(key=lambda case: (-_lesion_voxels(truths[case], lesions), case))
    # Manifests count voxels, so only a shortlist is read to find the largest area.
    areas = {
        c: np.isin(_load(truths[c], "label_maps"), lesions).sum((1, 2)) for c in able[:SHORTLIST]
    }
    case_id = max(areas, key=lambda case: int(areas[case].max()))
    z = int(areas[case_id].argmax())
    image, true, predicted = (
        _load(rows[case_id], stage)[z]
        for rows, stage in ((images, "preprocess"), (truths, "label_maps"), (masks, "generate"))
    )
    return MaskedSlice(case_id, z, image, true, predicted)


def _lesion_voxels(row: Row, lesion_ids: Collection[int]) -> int:
    voxels = row.extra.get("voxels", {})
    return sum(int(voxels.get(str(number), 0)) for number in lesion_ids)


def _load(row: Row, stage: str) -> Array:
    return load_array(resolve(row, stage), row.sha256)
