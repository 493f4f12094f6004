"""Separable resampling without BLAS: the same voxels on every machine.

Along one axis, output voxel o has its centre at `(o + 0.5) * scale + offset` in units of input
voxels, whose edges lie at whole numbers. Images weigh the inputs with a triangle that widens with
the scale, so shrinking does not alias; labels take the one input that holds the centre. Products
are added in a fixed order in float32 and rounded to int16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Array, Flags, Floats, Voxels

_SLAB_VOXELS: Final = 2**18  # a slab and its products stay in the processor's cache
Element = TypeVar("Element", bound=np.generic)
Taps = tuple[npt.NDArray[np.intp], Voxels]  # inputs of every output and their weights: (taps, size)


@dataclass(frozen=True)
class Axis:
    """How `size` output voxels sample `native` input voxels."""

    native: int
    size: int
    scale: float  # input voxels per output voxel

    @property
    def offset(self) -> float:
        """Where the first output voxel begins; both grids have the same middle."""
        # Rounded, so that a centre on the edge of a voxel does not depend on the last bits.
        return round((self.native - self.size * self.scale) / 2, 9)

    def centres(self) -> Floats:
        """Position of every output voxel's centre in input voxels."""
        return (np.arange(self.size, dtype=np.float64) + 0.5) * self.scale + self.offset

    def outside(self) -> Flags:
        """Mark the output voxels whose centre lies outside the input."""
        centres = self.centres()
        return (centres < 0) | (centres > self.native)

    def nearest(self) -> npt.NDArray[np.intp]:
        """Find the input voxel that holds the centre of every output voxel."""
        return np.clip(np.floor(self.centres()).astype(np.intp), 0, self.native - 1)

    def taps(self) -> Taps:
        """Find the inputs of every output and their weights."""
        support = max(1.0, self.scale)  # half the triangle's width: never less than one input voxel
        centres = self.centres() - 0.5  # in indices of inputs, which count from their centres
        first = np.floor(centres - support).astype(np.intp) + 1
        index = first + np.arange(int(np.ceil(2 * support)))[:, None]
        weight = np.maximum(0.0, 1.0 - np.abs(index - centres) / support)
        # At the border the inputs that exist share the whole weight, so that it does not darken.
        weight[(index < 0) | (index >= self.native)] = 0.0
        total = weight.sum(axis=0)
        weight /= np.where(total > 0, total, 1.0)
        return np.clip(index, 0, self.native - 1), weight.astype(np.float32)

    def inverse(self) -> Axis:
        """Sample the other way round: native voxels from the output grid."""
        return Axis(self.size, self.native, 1.0 / self.scale)


def resample_image(
    array: Array, axes: Sequence[Axis], clip: tuple[int, int]
) -> npt.NDArray[np.int16]:
    """Resample (z, y, x) Hounsfield units, clipped before they are mixed.

    Args:
        array: int16 or float32.
        axes: one for each of z, y, x.
        clip: lowest and highest value; the grid has the lowest outside the input.
    """
    z, y, x = axes
    # In the plane first and slice by slice: z comes last, on what is usually far fewer voxels.
    taps_y, taps_x = y.taps(), x.taps()
    plane = np.empty((z.native, y.size, x.size), np.float32)
    # The size of a slab changes the speed, never a sum.
    thickness = max(1, _SLAB_VOXELS // max(1, array[0].size))
    for start in range(0, z.native, thickness):
        slab = np.clip(array[start : start + thickness], *clip).astype(np.float32)
        plane[start : start + thickness] = _mix(_mix(slab, taps_y, 1), taps_x, 2)
    out = np.empty((z.size, y.size, x.size), np.int16)
    index, weight = z.taps()
    thickness = max(1, _SLAB_VOXELS // max(1, plane[0].size))
    for start in range(0, z.size, thickness):
        part = slice(start, start + thickness)
        out[part] = np.rint(_mix(plane, (index[:, part], weight[:, part]), 0))
    return _fill_outside(out, axes, np.int16(clip[0]))


def resample_labels(array: npt.NDArray[Element], axes: Sequence[Axis]) -> npt.NDArray[Element]:
    """Resample (z, y, x) class ids: the id at each output voxel's centre, 0 outside."""
    z, y, x = (axis.nearest() for axis in axes)
    out = array.take(z, axis=0).take(y, axis=1).take(x, axis=2)
    return _fill_outside(out, axes, 0)


def _mix(array: Voxels, taps: Taps, axis: int) -> Voxels:
    """Sum the weighted inputs of every output along one axis, tap by tap."""
    along = [-1 if number == axis else 1 for number in range(3)]  # a weight is the same across
    terms = (array.take(i, axis=axis) * w.reshape(along) for i, w in zip(*taps, strict=True))
    # A loop and no product of matrices: BLAS adds in an order that depends on the machine.
    total: Voxels = next(terms)
    for term in terms:
        total += term
    return total


def _fill_outside(
    array: npt.NDArray[Element], axes: Sequence[Axis], value: Any
) -> npt.NDArray[Element]:
    for number, axis in enumerate(axes):
        outside = axis.outside()
        if outside.any():
            np.moveaxis(array, number, 0)[outside] = value
    return array
