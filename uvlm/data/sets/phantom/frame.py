"""Where the voxels of a phantom lie: grids, orientations and spacings as mixed as real ones."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from uvlm.data.ct.volume import AxisOrder

_EXTENT_MM: Final = (320.0, 340.0, 340.0)
_AXIS_ORDERS: Final = (
    AxisOrder((0, 1, 2), (False, False, False)),
    AxisOrder((0, 1, 2), (False, True, True)),
    AxisOrder((0, 1, 2), (True, False, False)),
    AxisOrder((1, 0, 2), (False, False, True)),
    AxisOrder((2, 1, 0), (True, False, True)),
)


class Frame(NamedTuple):
    """Where a reconstruction lies: its file's axes, and its affine in canonical order."""

    axes: AxisOrder
    affine: npt.NDArray[np.float64]


def native_shape(base: tuple[int, int, int], draws: np.random.Generator) -> tuple[int, int, int]:
    """Draw the base grid with up to a ninth more or fewer voxels along z and in the plane."""
    depth, plane = (float(f) for f in draws.uniform(0.89, 1.11, 2))
    return round(base[0] * depth), round(base[1] * plane), round(base[2] * plane)


def draw_frame(shape: tuple[int, ...], draws: np.random.Generator) -> Frame:
    axes = _AXIS_ORDERS[int(draws.integers(len(_AXIS_ORDERS)))]
    scale = float(draws.uniform(0.9, 1.15))
    spacing = [round(extent * scale / n, 3) for extent, n in zip(_EXTENT_MM, shape, strict=True)]
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = spacing  # index (z, y, x) to LPS millimetres (x, y, z)
    affine[:3, 3] = np.round(draws.uniform(-200.0, 0.0, 3), 1)
    affine[3, 3] = 1.0
    return Frame(axes, affine)
