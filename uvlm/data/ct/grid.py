"""Where the network's grid lies in a CT, and bringing voxels onto it and back.

file axes --flip--> canonical (z, y, x) --anti-aliased linear--> grid
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Ids
from uvlm.config import Grid, PreprocessConfig
from uvlm.data.ct.resample import Axis, resample_image, resample_labels
from uvlm.data.ct.volume import Affine, AxisOrder, LabelMap, Volume, axis_order, spacing_of


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where a network grid lies in a CT: `shape` and `affine` are the CT's own, in file axes."""

    shape: Grid
    affine: Affine
    grid: Grid
    scale: tuple[float, float, float]  # canonical CT voxels per grid voxel, along z, y, x

    @classmethod
    def of(cls, volume: Volume, config: PreprocessConfig) -> Self:
        """Place the grid that `config` asks for in a volume."""
        order = axis_order(volume.affine)
        native = order.canonical_shape(volume.array.shape)
        # Stretching fits the whole CT to the grid; otherwise voxels get the size that is asked for.
        if config.resize == "stretch" or config.spacing_mm is None:
            ratios = [n / size for n, size in zip(native, config.grid, strict=True)]
        else:
            spacing = spacing_of(order.canonical_affine(volume.affine, volume.array.shape))
            ratios = [w / have for w, have in zip(config.spacing_mm, spacing, strict=True)]
        z, y, x = volume.array.shape
        return cls((z, y, x), volume.affine, config.grid, (ratios[0], ratios[1], ratios[2]))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned."""
        shape, grid, scale = (tuple(values[name]) for name in ("shape", "grid", "scale"))
        return cls(shape, np.array(values["affine"], float), grid, scale)

    def to_json(self) -> dict[str, Any]:
        """Return the geometry as JSON values."""
        names = ("shape", "affine", "grid", "scale")
        return {name: np.asarray(getattr(self, name)).tolist() for name in names}

    @cached_property
    def order(self) -> AxisOrder:
        """How the file's axes become canonical."""
        return axis_order(self.affine)

    @cached_property
    def axes(self) -> tuple[Axis, Axis, Axis]:
        """How the grid samples the canonical CT along z, y and x."""
        native = self.order.canonical_shape(self.shape)
        z, y, x = map(Axis, native, self.grid, self.scale)
        return z, y, x

    @property
    def grid_affine(self) -> Affine:
        """Grid index (z, y, x, 1) to LPS millimetres."""
        affine = self.order.canonical_affine(self.affine, self.shape)
        for number, axis in enumerate(self.axes):
            # Half a voxel less: an axis counts from the edge of a voxel, an affine from its centre.
            affine[:, 3] += affine[:, number] * (0.5 * axis.scale + axis.offset - 0.5)
            affine[:, number] *= axis.scale
        return affine

    def labels_to_grid(self, canonical: Ids) -> Ids:
        """Bring canonical class ids onto the grid, at the centres that the image has there."""
        return resample_labels(canonical, self.axes)

    def labels_to_native(self, array: Ids) -> LabelMap:
        """Bring class ids from the grid back to the CT's own voxels and axes."""
        # What the grid left out of the CT comes back as background.
        canonical = resample_labels(array, [axis.inverse() for axis in self.axes])
        return LabelMap(self.order.backward(canonical), self.affine)


def preprocess_volume(
    volume: Volume, config: PreprocessConfig
) -> tuple[npt.NDArray[np.int16], Geometry]:
    """Bring a CT onto the network's grid."""
    geometry = Geometry.of(volume, config)
    array = geometry.order.view(volume.array)
    return resample_image(array, geometry.axes, config.clip_hu), geometry
