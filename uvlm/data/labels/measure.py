"""What can be measured of the anatomy in a label map, before anybody judges it.

Measured on the CT's own voxels before lesions are painted, so that a large consolidation does not
make a lobe small; the Hounsfield units under a structure on whatever grid holds both.

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

AIR_HU: Final = -900  # below it is air: lung tissue, even when emphysematous, is mostly above it
Point = tuple[float, float, float]
Areas = Sequence[npt.NDArray[np.int64]]  # of one structure across z, y and x, plane by plane


@dataclass(frozen=True)
class StructureFacts:
    """What is known of one class.

    Args:
        ml: its volume.
        centre_mm: its centre of mass along z, y, x in LPS: up, backwards, to the left.
        is_cut: whether it touches the border of the CT, so that some of it may be missing.
        flat_end: its area in the outermost plane of any side, as a share of its largest area
            across that axis; organs taper off, what a knife or a tile has cut does not. Sides on
            the border of the CT do not count.
        largest: the share of its largest connected piece, for classes that are one piece.
        hu: the mean under it.
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
    """What is known of one label map.

    Args:
        ct_ml: the volume of the whole CT.
        structures: by fine id.
        overlaps: share of the smaller claim by pair of kinds, before merging.
    """

    ct_ml: float
    structures: Mapping[int, StructureFacts]
    overlaps: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Give the facts as JSON values."""
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
        overlaps: what kinds claimed together.
    """
    from scipy import ndimage

    voxel_ml = float(abs(np.linalg.det(affine[:3, :3]))) / 1000.0
    hu, air = _densities(*tissue)
    structures = {}
    for number, window in enumerate(ndimage.find_objects(anatomy), start=1):
        if window is None:
            continue
        mask = anatomy[window] == number
        areas = [mask.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
        structures[number] = StructureFacts(
            ml=round(float(areas[0].sum()) * voxel_ml, 3),
            centre_mm=_centre(areas, window, affine),
            is_cut=any(_on_border(window, anatomy.shape)),
            flat_end=_flat_end(areas, _on_border(window, anatomy.shape)),
            largest=_largest_share(mask) if number in one_piece else None,
            hu=hu.get(number),
            air=air.get(number),
        )
    return LabelFacts(round(anatomy.size * voxel_ml, 3), structures, overlaps)


def _densities(ids: Ids, hu: npt.NDArray[Any]) -> tuple[dict[int, float], dict[int, float]]:
    """Mean Hounsfield units, and the share of air, under every class."""
    flat = ids.ravel()
    count = np.bincount(flat, minlength=256)
    total = np.bincount(flat, weights=hu.ravel(), minlength=256)
    airy = np.bincount(flat[hu.ravel() < AIR_HU], minlength=256)
    present = [int(number) for number in np.flatnonzero(count)]
    mean = {number: round(float(total[number] / count[number]), 1) for number in present}
    return mean, {number: round(float(airy[number] / count[number]), 4) for number in present}


def _centre(areas: Areas, window: tuple[slice, ...], affine: Affine) -> Point:
    """Centre of mass in LPS millimetres, as (z, y, x)."""
    index = [
        part.start + float(np.arange(len(area)) @ area) / float(area.sum())
        for area, part in zip(areas, window, strict=True)
    ]
    x, y, z = (round(float(v), 1) for v in affine[:3, :3] @ index + affine[:3, 3])
    return z, y, x


def _on_border(window: tuple[slice, ...], shape: tuple[int, ...]) -> list[bool]:
    """Say of both sides along z, y and x whether they lie on the border of the CT."""
    ends = zip(window, shape, strict=True)
    return [on for part, length in ends for on in (part.start == 0, part.stop == length)]


def _flat_end(areas: Areas, on_border: Sequence[bool]) -> float:
    """Share of the largest area in the flattest of the sides inside the CT."""
    sides = [area[end] / area.max() for area in areas for end in (0, -1)]
    inside = [side for side, on in zip(sides, on_border, strict=True) if not on]
    return round(float(max(inside, default=0.0)), 4)


def _largest_share(mask: npt.NDArray[np.bool_]) -> float:
    """Share of the voxels that hang together in the largest piece, corners included."""
    from scipy import ndimage

    pieces, _ = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())[1:]
    return round(float(sizes.max() / sizes.sum()), 4)
