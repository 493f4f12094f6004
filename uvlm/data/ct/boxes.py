"""Findings as boxes: a lesion is a small part of a CT, and a case may have a dozen of them.

(z, y, x); a box is the smallest block that holds every voxel of a finding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from uvlm.arrays import Array, Ids
from uvlm.data.ct.volume import AxisOrder

Window = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class Box:
    """Values in the block that begins at `corner`; they are 0 outside it."""

    values: Ids
    corner: tuple[int, int, int] = (0, 0, 0)

    @property
    def window(self) -> Window:
        """Where the block lies in the whole array."""
        ends = zip(self.corner, self.values.shape, strict=True)
        return tuple(slice(start, start + size) for start, size in ends)

    @classmethod
    def around(cls, array: Ids) -> Self:
        """Cut a whole array down to what is not 0."""
        builder = Builder()
        for z, plane in enumerate(array):
            builder.add(z, plane)
        found = builder.box()
        return cls(found.values, found.corner)

    def whole(self, shape: tuple[int, ...]) -> Ids:
        """Fill a whole array."""
        array = np.zeros(shape, self.values.dtype)
        array[self.window] = self.values
        return array

    def canonical(self, order: AxisOrder, shape: tuple[int, ...]) -> Self:
        """Bring the block of an array of this shape from stored into canonical order."""
        corner = []
        for axis, is_reversed in zip(order.file_axes, order.reverse, strict=True):
            start, size = self.corner[axis], self.values.shape[axis]
            corner.append(shape[axis] - start - size if is_reversed else start)
        return type(self)(order.forward(self.values), (corner[0], corner[1], corner[2]))


@dataclass
class Builder:
    """Grows a box plane by plane; planes of zeros cost nothing."""

    planes: dict[int, tuple[int, int, Ids]] = field(default_factory=dict)

    def add(self, z: int, plane: Ids) -> None:
        """Keep what is not 0 of a plane (y, x)."""
        if (rows := np.flatnonzero(plane.any(axis=1))).size:
            columns = np.flatnonzero(plane.any(axis=0))
            y, x = int(rows[0]), int(columns[0])
            self.planes[z] = y, x, plane[y : rows[-1] + 1, x : columns[-1] + 1].copy()

    def box(self) -> Box:
        """Return the box of all planes; of nothing, one voxel of 0."""
        if not self.planes:
            return Box(np.zeros((1, 1, 1), np.uint8))
        kept = self.planes.values()
        z, last = min(self.planes), max(self.planes)
        y, x = min(y for y, _, _ in kept), min(x for _, x, _ in kept)
        height = max(at + part.shape[0] for at, _, part in kept) - y
        width = max(at + part.shape[1] for _, at, part in kept) - x
        values = np.zeros((last - z + 1, height, width), np.uint8)
        for number, (at_y, at_x, part) in self.planes.items():
            rows = slice(at_y - y, at_y - y + part.shape[0])
            values[number - z, rows, at_x - x : at_x - x + part.shape[1]] = part
        return Box(values, (z, y, x))


def count_ids(array: Ids) -> Array:
    """Count the voxels of every id from 0 to 255, plane by plane to save memory."""
    counts = np.zeros(256, np.int64)
    for plane in array:
        counts += np.bincount(plane.ravel(), minlength=256)
    return counts


def channels_of(planes: Iterable[Ids], number: int) -> list[Box]:
    """Gather the box of every channel from planes (y, x, F)."""
    builders = [Builder() for _ in range(number)]
    for z, plane in enumerate(planes):
        for channel in np.flatnonzero(plane.reshape(-1, number).max(axis=0)):
            builders[channel].add(z, plane[..., channel])
    return [builder.box() for builder in builders]
