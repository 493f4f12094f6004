"""Where a page jumps to, and how much of a map lies in a mask.

Points are millimetres as NIfTI counts them (RAS: x to Right, y to Anterior, z to Superior).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from uvlm.arrays import Array, Flags, Ids, Voxels
from uvlm.data.ct.formats.nifti import swap_convention
from uvlm.data.ct.volume import Affine

Point = tuple[float, float, float]
_SIDES = ("right", "left")


@dataclass(frozen=True, eq=False)
class PlaceMap:
    """A map over a CT: what each voxel of a grid is worth, at least 0, and where the grid lies.

    `kind` says how it was made. `affine` turns an index (z, y, x, 1) into LPS millimetres.
    """

    kind: str
    strength: Voxels
    affine: Affine


def focus(mask: Flags, affine: Affine, sides: Collection[str] = ()) -> Point | None:
    """Choose where to look at a mask: in its largest axial slice, the voxel next to the middle.

    Args:
        mask: (z, y, x) in LPS.
        affine: of the mask.
        sides: what the sentence says; if it names one side and the mask is there, look there.
    """
    if not mask.any():
        return None
    mask = _on_side(mask, sides)
    z = int(mask.sum((1, 2)).argmax())
    inside = np.argwhere(mask[z])
    y, x = inside[((inside - inside.mean(0)) ** 2).sum(1).argmin()]
    return point(affine, (z, int(y), int(x)))


def peak(shown: PlaceMap, sides: Collection[str] = ()) -> Point | None:
    """Return where a map is strongest; None where it is nowhere above 0."""
    if float(shown.strength.max(initial=0.0)) <= 0:
        return None
    positive = _on_side(shown.strength > 0, sides)
    index = np.unravel_index(int(np.where(positive, shown.strength, 0).argmax()), positive.shape)
    return point(shown.affine, tuple(int(i) for i in index))


def point(affine: Affine, index: tuple[int, ...] | Array) -> Point:
    """Turn an index (z, y, x) of a grid with an LPS affine into RAS millimetres."""
    z, y, x = index
    right, front, up = (swap_convention(affine) @ [x, y, z, 1.0])[:3]
    return round(float(right), 2), round(float(front), 2), round(float(up), 2)


def share_inside(shown: PlaceMap, mask: Ids | Flags, affine: Affine) -> tuple[float, float] | None:
    """Say which share of a map's weight lies in a mask, and which share of the map's grid it fills.

    Args:
        shown: the map.
        mask: on another grid.
        affine: of that grid.
    """
    total = float(shown.strength.sum(dtype=np.float64))
    if total <= 0 or not mask.any():
        return None
    voxels = np.argwhere(mask)
    to_map = np.linalg.inv(shown.affine) @ affine
    index = np.rint(voxels @ to_map[:3, :3].T + to_map[:3, 3]).astype(int)
    size = abs(np.linalg.det(to_map[:3, :3]))  # of a voxel of the mask, in voxels of the map
    index = index[((index >= 0) & (index < shown.strength.shape)).all(1)]
    filled = np.zeros(shown.strength.shape)
    np.add.at(filled, tuple(index.T), size)
    filled = filled.clip(max=1.0)
    return float((shown.strength * filled).sum() / total), float(filled.mean())


def _on_side(mask: Flags, sides: Collection[str]) -> Flags:
    """Keep the part of a mask (..., x) on the only side that is named, if it has one."""
    if len({*sides} & {*_SIDES}) != 1:
        return mask
    half = mask.copy()
    middle = mask.shape[-1] // 2  # x runs to the left
    half[..., middle:] &= "left" in sides
    half[..., :middle] &= "right" in sides
    return half if half.any() else mask
