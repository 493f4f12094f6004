"""Rotation and scaling of a patch: image and labels are sampled at the same places.

The draw comes first and decides which box of the volume is read, so a turned patch shows what is
there; only outside the volume the border voxels are repeated. All labels are sampled at once
(nearest voxel), whatever their number. The map never mirrors: it is a rotation times a positive
number.

(D, H, W) = (z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from uvlm.arrays import Floats
from uvlm.config import Grid, SpatialConfig
from uvlm.seeding import happens
from uvlm.train.augmentation.patches import Slices


@dataclass(frozen=True, eq=False)
class Warp:
    """How a patch is filled: v voxels from its centre is what lies matrix @ v from `centre`."""

    matrix: Floats  # (3, 3), voxels in (z, y, x)
    centre: Floats  # (3,), of what is shown, in the volume
    patch: Slices  # where it lies in the volume
    box: Slices  # the box of the volume to read

    def image(self, voxels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Sample the voxels of the box linearly: (D, H, W) of the patch."""
        return self._sample(torch.from_numpy(voxels), "bilinear").numpy()

    def labels(self, voxels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Sample class ids of the box: (D, H, W) of the patch."""
        nearest = self._sample(torch.from_numpy(voxels).float(), "nearest")
        return nearest.to(torch.uint8).numpy()

    def _sample(self, voxels: Tensor, mode: str) -> Tensor:
        shape = [place.stop - place.start for place in self.patch]
        grid = F.affine_grid(self._theta(), [1, 1, *shape], align_corners=True)
        return F.grid_sample(
            voxels[None, None], grid, mode=mode, padding_mode="border", align_corners=True
        )[0, 0]

    def _theta(self) -> Tensor:
        """Write the map as torch wants it: (1, 3, 4), axes (x, y, z), a box is [-1, 1] wide."""
        half_patch, half_box = (
            np.array([(s.stop - s.start - 1) / 2 for s in box]) for box in (self.patch, self.box)
        )
        offset = self.centre - middle(self.box)
        half_box = np.maximum(half_box, 0.5)  # one voxel is sampled at 0, however wide
        theta = np.column_stack([self.matrix * half_patch, offset]) / half_box[:, None]
        turned = np.column_stack([theta[::-1, 2::-1], theta[::-1, 3]])
        return torch.from_numpy(turned).float()[None]


def draw_warp(
    config: SpatialConfig,
    patch: Slices,
    shape: Grid,
    rng: np.random.Generator,
    about: Floats | None = None,
) -> Warp | None:
    """Draw whether and how a patch of a volume of this shape is turned and scaled.

    Args:
        config: probabilities and ranges.
        patch: where it lies in the volume.
        shape: of the volume.
        rng: source of the draws.
        about: the point of the volume that keeps its place in the patch; None for its centre.
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
    half = np.array([(place.stop - place.start - 1) / 2 for place in patch])
    reach = np.abs(matrix) @ half
    low = np.maximum(np.floor(centre - reach), 0).astype(int)
    high = np.minimum(np.ceil(centre + reach) + 1, shape).astype(int)
    z, y, x = (slice(int(start), int(stop)) for start, stop in zip(low, high, strict=True))
    return Warp(matrix, centre, patch, (z, y, x))


def middle(box: Slices) -> Floats:
    """Point in the middle of a box, (z, y, x)."""
    return np.array([(place.start + place.stop - 1) / 2 for place in box])


def _rotation(axis: int, angle: float) -> Floats:
    """Turn the other two axes by an angle."""
    first, second = (other for other in range(3) if other != axis)
    matrix = np.eye(3)
    matrix[[first, second], [first, second]] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix
