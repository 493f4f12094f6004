"""Findings that grow: the first so many voxels of a place, in some order.

How many is drawn evenly on a logarithmic scale, so that most findings are small and a few are very
large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import ndimage

from uvlm.data.sets.phantom.anatomy import Field, Mask, Point
from uvlm.data.sets.phantom.reports import Size

ROUND: Final = (1.0, 1.0, 1.0)
_MOST_INSTANCES: Final = 3


@dataclass(frozen=True, eq=False)
class Growth:
    """How large findings become.

    Args:
        sizes: the part of the logarithmic scale, 0 one voxel and 1 the whole place, that is used.
    """

    generator: np.random.Generator
    sizes: tuple[float, float]

    def extent(self) -> float:
        """Draw how large a finding is, from 0 to 1."""
        return float(self.generator.uniform(*self.sizes))

    def a_voxel_of(self, place: Mask) -> tuple[int, int, int]:
        """Draw a voxel of a place."""
        z, y, x = np.unravel_index(self._pick(place), place.shape)
        return int(z), int(y), int(x)

    def grow(self, place: Mask, extent: float, order: Field, limit: int | None = None) -> Mask:
        """Fill the first voxels of a place, in the order of a number for each of its voxels.

        Args:
            place: (D, H, W), with at least one voxel.
            extent: 0 fills one voxel, 1 the whole place or `limit` voxels.
            order: (number of voxels of the place).
            limit: the most voxels to fill, if that is less than the whole place.
        """
        largest = min(len(order), limit or len(order))
        filled = np.zeros(place.shape, np.bool_)
        first = np.argsort(order, kind="stable")[: round(largest**extent)]
        filled.ravel()[np.flatnonzero(place)[first]] = True
        return filled

    def around(self, place: Mask, centre: Sequence[int], radii: Point) -> Field:
        """Measure the distance of each voxel of a place from a centre, in units of `radii`."""
        at = (np.nonzero(place)[axis] - centre[axis] for axis in range(3))
        return np.asarray(sum((a / r) ** 2 for a, r in zip(at, radii, strict=True)))

    def balls(self, place: Mask, extent: float, limit: int) -> list[Mask]:
        """Grow one to three balls in a place, never two in the same voxels."""
        free, balls = place.copy(), list[Mask]()
        for _ in range(1 + int(self.generator.integers(_MOST_INSTANCES))):
            if not free.any():
                break
            order = self.around(free, self.a_voxel_of(free), ROUND)
            balls.append(self.grow(free, extent, order, limit))
            free &= ~ndimage.binary_dilation(balls[-1])
        return balls

    def _pick(self, place: Mask) -> int:
        inside = np.flatnonzero(place)
        return int(inside[int(self.generator.integers(len(inside)))])


def size_of(extent: float) -> Size:
    """Name a size as a report does."""
    return "small" if extent < 1 / 3 else "moderate" if extent < 2 / 3 else "large"
