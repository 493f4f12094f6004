"""Rotation and scaling of a patch: image and labels are sampled at the same places.

The draw comes first and decides which box of the volume is read, so a rotated patch shows real
surroundings; border voxels are repeated only outside the volume. Labels are sampled by the nearest
voxel, all classes at once. The map never mirrors: it is a rotation times a positive number.

(D, H, W) = (z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from uvlm.arrays import Floats
from uvlm.config import Grid, SpatialConfig
from uvlm.seeding import happens
from uvlm.train.augmentation.patches import Slices


class Sampling(NamedTuple):
    """A warp as torch wants it; moves to another device as part of a batch."""

    theta: Tensor  # (1, 3, 4), see `Warp`
    shape: Grid  # of the patch

    def image(self, voxels: Tensor) -> Tensor:
        """Sample the voxels of the box linearly: (D, H, W) of the patch."""
        return self._sample(voxels, "bilinear")

    def labels(self, voxels: Tensor) -> Tensor:
        """Sample class ids of the box: (D, H, W) of the patch."""
        # grid_sample takes no integers; float32 holds ids up to 255 exactly.
        return self._sample(voxels.float(), "nearest").to(torch.uint8)

    def _sample(self, voxels: Tensor, mode: str) -> Tensor:
        grid = F.affine_grid(self.theta, [1, 1, *self.shape], align_corners=True)
        return F.grid_sample(
            voxels[None, None], grid, mode=mode, padding_mode="border", align_corners=True
        )[0, 0]


@dataclass(frozen=True, eq=False)
class Warp:
    """How to fill a patch: the voxel at offset v from its centre shows `centre` + matrix @ v."""

    matrix: Floats  # (3, 3), voxels in (z, y, x)
    centre: Floats  # (3,), in the volume, of what the patch shows
    patch: Slices  # place of the patch in the volume
    box: Slices  # part of the volume to read

    def image(self, voxels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Sample the voxels of the box linearly: (D, H, W) of the patch."""
        return self.sampling.image(torch.from_numpy(voxels)).numpy()

    def labels(self, voxels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Sample class ids of the box: (D, H, W) of the patch."""
        return self.sampling.labels(torch.from_numpy(voxels)).numpy()

    @property
    def sampling(self) -> Sampling:
        """What torch needs to know of this warp."""
        z, y, x = (place.stop - place.start for place in self.patch)
        return Sampling(self._theta(), (z, y, x))

    def _theta(self) -> Tensor:
        """Express the map as torch wants it: (1, 3, 4), axes (x, y, z), a box from -1 to 1."""
        offset = self.centre - middle(self.box)
        half_box = np.maximum(_half(self.box), 0.5)  # a box of one voxel must not divide by 0
        # In torch's units: columns scale the patch's [-1, 1] to voxels, rows voxels to the box's.
        theta = np.column_stack([self.matrix * _half(self.patch), offset]) / half_box[:, None]
        # From (z, y, x) to (x, y, z): rows and the first three columns reversed.
        turned = np.column_stack([theta[::-1, 2::-1], theta[::-1, 3]])
        return torch.from_numpy(turned).float()[None]


def draw_warp(
    config: SpatialConfig,
    patch: Slices,
    shape: Grid,
    rng: np.random.Generator,
    about: Floats | None = None,
) -> Warp | None:
    """Draw whether and how to rotate and scale a patch of a volume of this shape.

    Args:
        config: probabilities and ranges.
        patch: place of the patch in the volume.
        shape: shape of the volume.
        rng: source of the draws.
        about: point of the volume that keeps its place in the patch; None for the patch's centre.
    """
    matrix = np.eye(3)
    if happens(config.rotation_deg.probability, rng):
        for axis, angle in enumerate(np.deg2rad(rng.uniform(*config.rotation_deg.between, 3))):
            matrix = _rotation(axis, angle) @ matrix
    if happens(config.scaling.probability, rng):
        matrix = matrix * rng.uniform(*config.scaling.between)
    if np.array_equal(matrix, np.eye(3)):
        return None
    pivot = middle(patch) if about is None else about
    centre = pivot + matrix @ (middle(patch) - pivot)
    reach = np.abs(matrix) @ _half(patch)  # half the edges of the box around the rotated patch
    low = np.maximum(np.floor(centre - reach), 0).astype(int)
    high = np.minimum(np.ceil(centre + reach) + 1, shape).astype(int)
    z, y, x = (slice(int(start), int(stop)) for start, stop in zip(low, high, strict=True))
    return Warp(matrix, centre, patch, (z, y, x))


def middle(box: Slices) -> Floats:
    """Find the point in the middle of a box, (z, y, x)."""
    return np.array([(place.start + place.stop - 1) / 2 for place in box])


def _half(box: Slices) -> Floats:
    """Measure from the middle of a box to the centres of its outermost voxels, (z, y, x)."""
    return np.array([(place.stop - place.start - 1) / 2 for place in box])


def _rotation(axis: int, angle: float) -> Floats:
    """Rotate by an angle about one axis."""
    first, second = (other for other in range(3) if other != axis)
    matrix = np.eye(3)
    matrix[[first, second], [first, second]] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix
