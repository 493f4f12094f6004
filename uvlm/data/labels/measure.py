"""Measure the anatomy in a label map, before `rules` judges it.

Everything is measured on the CT's own voxels before lesions are painted, so that a large
consolidation does not make a lobe small; Hounsfield units on whatever grid holds both.

(z, y, x) canonical order; voxels carry fine ids.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Ids
from uvlm.data.ct.volume import Affine

AIR_HU: Final = -900  # below it is air: lung tissue, even if emphysematous, is mostly above it
Point = tuple[float, float, float]
Areas = Sequence[npt.NDArray[np.int64]]  # of one structure across z, y and x, plane by plane


@dataclass(frozen=True)
class StructureFacts:
    """The measurements of one class.

    Args:
        ml: its volume.
        centre_mm: its centre of mass along z, y, x in LPS: up, backwards, to the left.
        is_cut: whether it touches the border of the CT, so that some of it may be missing.
        flat_end: its area in the outermost plane of any side, as a share of its largest area
            across that axis: organs taper off, what a knife or a tile has cut does not. Sides on
            the border of the CT do not count.
        largest: the share of its largest connected piece, for classes that are one piece.
        hu: its mean.
        air: the share of it that is air.
    """

    ml: float
    centre_mm: Point
    is_cut: bool
    flat_end: float = 0.0
    largest: float | None = None
    hu: float | None = None
    air: float | None = None


@dataclass(frozen=True)
class LabelFacts:
    """The measurements of one label map.

    Args:
        ct_ml: the volume of the whole CT.
        structures: by fine id.
        overlaps: share of the smaller claim by pair of kinds, before merging.
    """

    ct_ml: float
    structures: Mapping[int, StructureFacts]
    overlaps: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON values."""
        found = {str(number): asdict(facts) for number, facts in self.structures.items()}
        return {"ct_ml": self.ct_ml, "structures": found, "overlaps": dict(self.overlaps)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Undo `to_json`."""
        structures = {
            int(number): StructureFacts(**{**facts, "centre_mm": tuple(facts["centre_mm"])})
            for number, facts in values["structures"].items()
        }
        return cls(values["ct_ml"], structures, dict(values["overlaps"]))


def measure(
    anatomy: Ids,
    affine: Affine,
    one_piece: Collection[int],
    tissue: tuple[Ids, npt.NDArray[Any]],
    overlaps: Mapping[str, float],
) -> LabelFacts:
    """Measure every class of a label map.

    Args:
        anatomy: without lesions.
        affine: its index to LPS millimetres.
        one_piece: classes whose pieces are counted.
        tissue: the same classes and Hounsfield units, both on one grid.
        overlaps: share of the smaller claim by pair of kinds.
    """
    from scipy import ndimage

    voxel_ml = float(abs(np.linalg.det(affine[:3, :3]))) / 1000.0
    hu, air = _densities(*tissue)
    structures = {}
    # Each class inside its own bounding box: a CT has 100 classes and most of them are small.
    for number, window in enumerate(ndimage.find_objects(anatomy), start=1):
        if window is None:
            continue
        mask = anatomy[window] == number
        # Voxels of every plane across z, y and x: they give volume, centre and flat ends.
        areas = [mask.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
        ends = zip(window, anatomy.shape, strict=True)
        on_border = [on for part, size in ends for on in (part.start == 0, part.stop == size)]
        structures[number] = StructureFacts(
            ml=round(float(areas[0].sum()) * voxel_ml, 3),
            centre_mm=_centre(areas, window, affine),
            is_cut=any(on_border),
            flat_end=_flat_end(areas, on_border),
            largest=_largest_share(mask) if number in one_piece else None,
            hu=hu.get(number),
            air=air.get(number),
        )
    return LabelFacts(round(anatomy.size * voxel_ml, 3), structures, overlaps)


def _densities(ids: Ids, hu: npt.NDArray[Any]) -> tuple[dict[int, float], dict[int, float]]:
    """Return the mean Hounsfield units and the share of air of every class."""
    count, airy, total = np.zeros(256, np.int64), np.zeros(256, np.int64), np.zeros(256)
    for plane, values in zip(ids, hu, strict=True):  # whole numbers: sums do not depend on planes
        count += np.bincount(plane.ravel(), minlength=256)
        airy += np.bincount(plane[values < AIR_HU], minlength=256)
        total += np.bincount(plane.ravel(), weights=values.ravel(), minlength=256)
    present = np.flatnonzero(count).tolist()
    mean = {number: round(float(total[number] / count[number]), 1) for number in present}
    return mean, {number: round(float(airy[number] / count[number]), 4) for number in present}


def _centre(areas: Areas, window: tuple[slice, ...], affine: Affine) -> Point:
    """Return the centre of mass in LPS millimetres, as (z, y, x)."""
    # The mean index along an axis needs only the areas of its planes.
    index = [
        part.start + float(np.arange(len(area)) @ area) / float(area.sum())
        for area, part in zip(areas, window, strict=True)
    ]
    # Columns of the affine follow z, y, x; its rows are x, y, z in LPS.
    x, y, z = (round(float(v), 1) for v in affine[:3, :3] @ index + affine[:3, 3])
    return z, y, x


def _flat_end(areas: Areas, on_border: Sequence[bool]) -> float:
    """Return the share of the largest area in the flattest side inside the CT."""
    # Sides in the order of `on_border`: both of z, of y, of x.
    sides = [area[end] / area.max() for area in areas for end in (0, -1)]
    inside = [side for side, on in zip(sides, on_border, strict=True) if not on]
    return round(float(max(inside, default=0.0)), 4)


def _largest_share(mask: npt.NDArray[np.bool_]) -> float:
    """Return the share of the voxels in the largest piece, connected at corners too."""
    from scipy import ndimage

    pieces, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    sizes = np.zeros(count, np.int64)
    for plane in pieces:
        sizes += np.bincount(plane.ravel(), minlength=count + 1)[1:]
    return round(float(sizes.max() / sizes.sum()), 4)
