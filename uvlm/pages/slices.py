"""The CT slice that a page shows: the axial slice of the test split with the largest lesion area.

Where no reference has a lesion, it is the one with the largest labelled area.

(D, H, W) = (z, y, x), x towards Left and y towards Posterior: with row 0 on top, the patient's
right is on the left, as radiologists view it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Array, Ids
from uvlm.data.label_scheme import LabelScheme
from uvlm.store import Row, load_array, resolve, rows_by_case

SHORTLIST = 12


@dataclass(frozen=True, eq=False)
class MaskedSlice:
    """One axial slice: Hounsfield units, true and predicted ids, all (H, W).

    `shown` says which area of the reference is the largest in it.
    """

    case_id: str
    z: int
    image: npt.NDArray[np.int16]
    true: Ids
    predicted: Ids
    shown: str


def choose_slice(
    case_ids: Sequence[str],
    classes: LabelScheme,
    preprocess: Path,
    label_maps: Path,
    generated_masks: Path,
) -> MaskedSlice | None:
    """Of the cases with most lesion voxels, take the slice with most of them.

    None if no test case has an image, a label map that is not empty and a predicted mask.
    """
    images, truths, masks = map(rows_by_case, (preprocess, label_maps, generated_masks))
    everywhere = images.keys() & truths.keys() & masks.keys()
    able = {case: truths[case] for case in case_ids if case in everywhere}
    for shown, ids in (("lesion", classes.lesion_ids), ("labelled", classes.anatomy_ids - {0})):
        if place := _largest(able, sorted(ids)):
            case_id, z = place
            image, true, predicted = (
                _load(rows[case_id], stage)[z]
                for rows, stage in (
                    (images, "preprocess"),
                    (truths, "label_maps"),
                    (masks, "generate"),
                )
            )
            return MaskedSlice(case_id, z, image, true, predicted, shown)
    return None


def _largest(truths: Mapping[str, Row], ids: Sequence[int]) -> tuple[str, int] | None:
    """Find the case and the slice with the largest area of these classes; None without any."""
    ordered = sorted(truths, key=lambda case: (-_voxels(truths[case], ids), case))
    # Manifests count voxels, so only a shortlist is read to find the largest area.
    areas = {
        case: np.isin(_load(truths[case], "label_maps"), ids).sum((1, 2))
        for case in ordered[:SHORTLIST]
    }
    case_id = max(areas, key=lambda case: int(areas[case].max()), default=None)
    if case_id is None or not areas[case_id].any():
        return None
    return case_id, int(areas[case_id].argmax())


def _voxels(row: Row, ids: Collection[int]) -> int:
    voxels = row.extra.get("voxels", {})
    return sum(int(voxels.get(str(number), 0)) for number in ids)


def _load(row: Row, stage: str) -> Array:
    return load_array(resolve(row, stage), row.sha256)
