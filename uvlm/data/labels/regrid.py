"""Bring labels that were drawn on another grid onto the grid of a CT.

Each voxel of the CT takes the id at its centre, 0 outside the labels. Affines map an index
(z, y, x, 1) to LPS millimetres and need not agree in axes, spacing or direction.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np

from uvlm.arrays import Flags, Floats, Ids
from uvlm.data.ct.grid_rules import is_on_grid
from uvlm.data.ct.volume import Affine, LabelMap, ReadError

_DECIMALS: Final = 6  # of a voxel: centres on an edge fall to the same side on every machine
_REMEDY: Final = "use the labels that were made for this CT"


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the voxels of a grid (z, y, x) lie in another; `matrix` maps an index to an index."""

    matrix: Affine
    shape: tuple[int, ...]
    source_shape: tuple[int, ...]

    @classmethod
    def of(cls, shape: Sequence[int], affine: Affine, source: LabelMap) -> Self:
        """Place a grid in the grid of some labels."""
        # index -> millimetres -> index; rounding removes what solving leaves of whole numbers.
        matrix = np.round(np.linalg.solve(source.affine, affine), 12)
        return cls(matrix, tuple(shape), source.array.shape)

    def overlaps(self) -> bool:
        """Whether any part of one grid's box lies in the other's."""
        low, high = _reach(self.matrix, self.shape, beyond=0.5)  # voxels end half a step further
        return bool((high > -0.5).all() and (low < np.array(self.source_shape) - 0.5).all())

    def sample(self, array: Ids) -> Ids:
        """Take the id that holds each voxel's centre, plane by plane to save memory."""
        out = np.zeros(self.shape, array.dtype)
        y, x = np.ogrid[: self.shape[1], : self.shape[2]]  # (Y, 1), (1, X)
        for z in range(self.shape[0]):
            index, inside = [], np.ones(self.shape[1:], bool)
            for row, length in zip(self.matrix[:3], self.source_shape, strict=True):
                place = row[0] * z + row[1] * y + row[2] * x + row[3]  # (Y, X)
                nearest = np.floor(np.round(place, _DECIMALS) + 0.5).astype(np.intp)
                inside &= (nearest >= 0) & (nearest < length)
                index.append(np.clip(nearest, 0, length - 1))  # valid, if only to be masked below
            out[z] = np.where(inside, array[tuple(index)], 0)
        return out

    def mark(self, out: Ids, chosen: Flags, array: Ids) -> None:
        """Write the ids of the chosen label voxels to the voxels of `out` that hold them."""
        places = np.argwhere(chosen)  # (voxels, 3)
        back = np.linalg.inv(self.matrix)
        found = np.round(places @ back[:3, :3].T + back[:3, 3], _DECIMALS)
        nearest = np.floor(found + 0.5).astype(np.intp)
        inside = ((nearest >= 0) & (nearest < np.array(self.shape))).all(axis=1)
        out[tuple(nearest[inside].T)] = array[tuple(places[inside].T)]


def onto_grid(
    labels: LabelMap, shape: Sequence[int], affine: Affine, path: Path | str, *, keep: bool = False
) -> Ids:
    """Bring labels onto the grid of a CT; labels that already lie on it are returned as they are.

    Args:
        labels: on any grid.
        shape: of the CT, in the axes that `affine` belongs to.
        affine: of the CT.
        path: where the labels come from, for the refusal.
        keep: no id may vanish because the CT's voxels are larger than what carries it.

    Raises:
        ReadError: labels and CT lie apart, or nothing that is labelled lies in the CT.
    """
    if is_on_grid(labels, shape, affine):
        return labels.array
    placement = Placement.of(shape, affine, labels)
    if not placement.overlaps():
        fact = f"lies beside the CT: its {_extent(labels)} do not meet the CT's"
        raise ReadError(path, fact, _REMEDY, reason="no_overlap")
    out = placement.sample(labels.array)
    present, seen = (np.bincount(ids.ravel(), minlength=256) > 0 for ids in (labels.array, out))
    if keep and (lost := present & ~seen).any():
        placement.mark(out, lost[labels.array], labels.array)
    if present[1:].any() and not out.any():
        fact = "labels nothing inside the CT, only beside it"
        raise ReadError(path, fact, _REMEDY, reason="no_overlap")
    return out


def _reach(matrix: Affine, shape: Sequence[int], beyond: float = 0.0) -> tuple[Floats, Floats]:
    """Find the bounds of a grid's voxel centres, mapped by a matrix; `beyond` widens the grid."""
    corners = np.array([*itertools.product(*((-beyond, n - 1 + beyond) for n in shape))])
    places = corners @ matrix[:3, :3].T + matrix[:3, 3]  # (8, 3)
    return places.min(axis=0), places.max(axis=0)


def _extent(labels: LabelMap) -> str:
    """Describe where labels lie, in millimetres."""
    low, high = _reach(labels.affine, labels.array.shape)
    ranges = (f"{a:.0f}..{b:.0f}" for a, b in zip(low, high, strict=True))
    return "x, y, z = " + ", ".join(ranges) + " mm (LPS)"
