"""Augmentation of normalised voxels: small changes of all volumes, larger ones of some.

`spatial.py` rotates and scales, `intensity.py` holds the occasional changes of intensity.

Nothing is ever mirrored: the reports speak of left and right, upper and lower.

(D, H, W) = (z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from uvlm.arrays import Voxels
from uvlm.config import AugmentConfig, Grid
from uvlm.seeding import generator
from uvlm.train.augmentation.intensity import vary
from uvlm.train.augmentation.spatial import draw_warp

Number = TypeVar("Number", np.float32, np.uint8)


@dataclass(frozen=True)
class CachedViews:
    """Makes view `number` of a case for the cache of a frozen encoder: a function of its keys."""

    augment: AugmentConfig
    seed: int

    def __call__(self, x: Voxels, case_id: str, number: int) -> Voxels:
        """Augment normalised voxels (D, H, W)."""
        return augment_volume(x, self.augment, generator(self.seed, "view", case_id, number))


def augment_volume(x: Voxels, config: AugmentConfig, rng: np.random.Generator) -> Voxels:
    """Augment a whole volume without labels."""
    depth, height, width = x.shape
    whole = (slice(0, depth), slice(0, height), slice(0, width))
    warp = draw_warp(config.spatial, whole, (depth, height, width), rng)
    if warp is not None:
        x = warp.image(np.ascontiguousarray(x[warp.box]))
    return augment_intensity(roll(x, draw_roll(config, rng)), config, rng)


def augment_intensity(x: Voxels, config: AugmentConfig, rng: np.random.Generator) -> Voxels:
    """Apply gamma, scale, shift and noise, each normally distributed with its own deviation."""
    # All three are always drawn, so that switching one on leaves the others as they were.
    scale, shift, log_gamma = rng.standard_normal(3)
    if config.gamma_std > 0:
        x = _gamma(x, float(np.exp(config.gamma_std * log_gamma)))
    x = x * np.float32(1 + config.scale_std * scale) + np.float32(config.shift_std * shift)
    if config.noise_std > 0:
        x += rng.standard_normal(x.shape, dtype=np.float32) * np.float32(config.noise_std)
    return vary(torch.from_numpy(x), config.intensity, rng).numpy()


def draw_roll(config: AugmentConfig, rng: np.random.Generator) -> Grid:
    """Draw a shift in voxels, uniform between minus and plus `roll_voxels`."""
    z, y, x = (int(rng.integers(-limit, limit + 1)) for limit in config.roll_voxels)
    return z, y, x


def roll(x: npt.NDArray[Number], shift: Grid) -> npt.NDArray[Number]:
    """Move the content by `shift` voxels; border voxels are repeated, nothing wraps around."""
    for axis, step in enumerate(shift):
        if step:
            length = x.shape[axis]
            x = np.take(x, np.clip(np.arange(length) - step, 0, length - 1), axis=axis)
    return x


def _gamma(x: Voxels, gamma: float) -> Voxels:
    """Bend the intensities between the smallest and the largest value."""
    low, high = float(x.min()), float(x.max())
    if high <= low:
        return x
    bent: Voxels = ((x - np.float32(low)) / np.float32(high - low)) ** np.float32(gamma)
    return bent * np.float32(high - low) + np.float32(low)
