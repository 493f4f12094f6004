"""A CT and its voxel classes on a grid; the geometry travels with the array.

Arrays are (z, y, x). `affine` maps an index (z, y, x, 1) to millimetres in LPS (x to Left, y to
Posterior, z to Superior). Canonical means that z, y, x run along +S, +P, +L.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Array, Floats, Ids
from uvlm.data.ct.origin import CtOrigin
from uvlm.errors import AmbiguousCt as AmbiguousCt  # what readers of volumes raise
from uvlm.errors import ReadError as ReadError

Affine = Floats
Spacing = tuple[float, float, float]

# Row of the affine that the canonical axes z, y, x follow: +S, +P, +L.
_CANONICAL_ROWS: Final = (2, 1, 0)
_LETTERS: Final = (("R", "L"), ("A", "P"), ("I", "S"))
_LAST_THREE: Final = (-3, -2, -1)


@dataclass(frozen=True, eq=False)
class Volume:
    """Hounsfield units on a grid; `origin` says what was read if it came from a file or folder."""

    array: npt.NDArray[np.int16] | npt.NDArray[np.float32]
    affine: Affine
    origin: CtOrigin | None = None

    @property
    def spacing(self) -> Spacing:
        """Voxel size in millimetres along (z, y, x)."""
        return spacing_of(self.affine)

    def orientation(self) -> str:
        """Name the file's own axes by nibabel's codes, x first: "LPS" is canonical."""
        return orientation_of(self.affine)


@dataclass(frozen=True, eq=False)
class LabelMap:
    """One class id per voxel on the grid of a volume."""

    array: Ids
    affine: Affine

    @property
    def spacing(self) -> Spacing:
        """Voxel size in millimetres along (z, y, x)."""
        return spacing_of(self.affine)


@dataclass(frozen=True)
class AxisOrder:
    """Which stored axis becomes canonical z, y and x, and which of them are then reversed."""

    file_axes: tuple[int, int, int]
    reverse: tuple[bool, bool, bool]

    def forward(self, array: Array) -> Array:
        """Bring stored order into canonical order; axes before the last three are kept."""
        return np.ascontiguousarray(self.view(array))

    def view(self, array: Array) -> Array:
        """`forward` without a copy, for what reads the voxels only once."""
        viewed: Array = np.moveaxis(array, self._from_end(), _LAST_THREE)[self._flips()]
        return viewed

    def backward(self, array: Array) -> Array:
        """Bring canonical order back into stored order: the exact inverse of `forward`."""
        return np.ascontiguousarray(
            np.moveaxis(array[self._flips()], _LAST_THREE, self._from_end())
        )

    def canonical_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Shape of an array after `forward`."""
        z, y, x = (shape[axis] for axis in self.file_axes)
        return z, y, x

    def canonical_affine(self, affine: Affine, shape: tuple[int, ...]) -> Affine:
        """Affine of an array after `forward`."""
        canonical = affine[:, [*self.file_axes, 3]].copy()
        for axis in np.flatnonzero(self.reverse):
            # The origin moves to what was the last voxel of the axis.
            canonical[:, 3] += (self.canonical_shape(shape)[axis] - 1) * canonical[:, axis]
            canonical[:, axis] *= -1
        return canonical

    def stored_affine(self, canonical: Affine, shape: tuple[int, ...]) -> Affine:
        """Affine of an array after `backward`; `shape` is that of the canonical array."""
        affine = canonical.copy()
        affine[:, self.file_axes] = canonical[:, :3] * np.where(self.reverse, -1.0, 1.0)
        for axis in np.flatnonzero(self.reverse):
            affine[:, 3] += (shape[axis] - 1) * canonical[:, axis]
        return affine

    def _from_end(self) -> list[int]:
        # Counted from the end, as axes such as that of findings may come first.
        return [axis - 3 for axis in self.file_axes]

    def _flips(self) -> tuple[Any, ...]:
        return (..., *(slice(None, None, -1 if reverse else 1) for reverse in self.reverse))


def axis_order(affine: Affine) -> AxisOrder:
    """Find the axis permutation and flips that bring this grid closest to LPS."""
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    # All six permutations: for an oblique grid, two axes may each be nearest to the same direction.
    file_axes = max(
        permutations(range(3)),
        key=lambda axes: sum(abs(cosines[row, axes[i]]) for i, row in enumerate(_CANONICAL_ROWS)),
    )
    z, y, x = (bool(cosines[row, file_axes[i]] < 0) for i, row in enumerate(_CANONICAL_ROWS))
    return AxisOrder((file_axes[0], file_axes[1], file_axes[2]), (z, y, x))


def spacing_of(affine: Affine) -> Spacing:
    """Voxel size in millimetres along (z, y, x)."""
    z, y, x = np.linalg.norm(affine[:3, :3], axis=0)
    return float(z), float(y), float(x)


def orientation_of(affine: Affine) -> str:
    """Name the direction in which each stored axis, x first, increases, by nibabel's codes."""
    order = axis_order(affine)
    codes = {}
    for axis, row, reverse in zip(order.file_axes, _CANONICAL_ROWS, order.reverse, strict=True):
        codes[axis] = _LETTERS[row][not reverse]
    return "".join(codes[axis] for axis in (2, 1, 0))


def to_canonical(volume: Volume) -> Volume:
    """Bring the voxels into LPS order; nothing is interpolated."""
    order = axis_order(volume.affine)
    affine = order.canonical_affine(volume.affine, volume.array.shape)
    return Volume(order.forward(volume.array), affine)
