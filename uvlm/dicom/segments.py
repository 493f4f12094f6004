"""A label map as numbered segments: one a structure, one for each separate part of a lesion class.

(z, y, x). Voxels of a part touch by faces, edges or corners. Of a class in very many parts the
largest are segments of their own and the others are one together, so no voxel is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from uvlm.data.ct.volume import LabelMap
from uvlm.dicom.codes import Concept, concept_of
from uvlm.dicom.identity import long_string
from uvlm.errors import DataError

MAX_PARTS: Final = 20  # segments of one lesion class
_ML: Final = 1000.0  # cubic millimetres
_TOUCHING: Final = np.ones((3, 3, 3), bool)
Numbers = npt.NDArray[np.uint16]
Window = tuple[slice, ...]


@dataclass(frozen=True)
class Segment:
    """One segment: `number` in the array, class `name`, and how much of it there is."""

    number: int
    name: str
    label: str
    concept: Concept
    voxels: int
    volume_ml: float


@dataclass(frozen=True, eq=False)
class Segments:
    """Which segment every voxel (z, y, x) belongs to, 0 for none; and the segments in order."""

    array: Numbers
    listed: tuple[Segment, ...]

    @classmethod
    def none(cls) -> Self:
        """Return no segments."""
        return cls(np.zeros((0, 0, 0), np.uint16), ())

    @property
    def lesions(self) -> list[Segment]:
        """Segments of lesions, the largest first."""
        found = [segment for segment in self.listed if segment.concept.is_lesion]
        return sorted(found, key=lambda segment: -segment.voxels)


def segments_of(label_map: LabelMap, names: Sequence[str]) -> Segments:
    """Give numbers to what a label map holds, in the order of its class ids.

    Raises:
        DataError: the map holds an id that has no name.
    """
    present = np.flatnonzero(np.bincount(label_map.array.ravel(), minlength=1)).tolist()
    if present[-1] >= len(names):
        fact = f"the masks hold id {present[-1]}, which no class of the model has"
        raise DataError("segmentation.nii.gz", fact, "run `uvlm predict` again")
    voxel_ml = abs(float(np.linalg.det(label_map.affine[:3, :3]))) / _ML
    numbers: Numbers = np.zeros(label_map.array.shape, np.uint16)
    listed: list[Segment] = []
    windows = ndimage.find_objects(label_map.array)
    for class_id in (number for number in present if number):
        window = windows[class_id - 1]
        name, mask = names[class_id], label_map.array[window] == class_id
        for label, part in _parts(name, mask):
            number, voxels = len(listed) + 1, int(np.count_nonzero(part))
            numbers[window][part] = number
            volume = voxels * voxel_ml
            listed.append(Segment(number, name, label, concept_of(name), voxels, volume))
    return Segments(numbers, tuple(listed))


def _parts(name: str, mask: npt.NDArray[np.bool_]) -> Iterator[tuple[str, Any]]:
    """Cut a lesion class into its separate parts, the largest first."""
    label = name.replace("_", " ").capitalize()
    if not concept_of(name).is_lesion:
        yield long_string(label), mask
        return
    numbers, count = ndimage.label(mask, _TOUCHING)
    order = np.argsort(-np.bincount(numbers.ravel())[1:], kind="stable") + 1
    own = order if count <= MAX_PARTS else order[: MAX_PARTS - 1]
    for rank, number in enumerate(own, start=1):
        which = f" {rank} of {count}" if count > 1 else ""
        yield long_string(label[:40] + which), numbers == number
    if len(own) < count:
        yield (
            long_string(f"{label[:40]} {len(own) + 1} to {count} of {count}"),
            (np.isin(numbers, order[len(own) :])),
        )
