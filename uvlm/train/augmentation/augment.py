"""Augmentation of normalised voxels: small changes of all volumes, larger ones of some.

`spatial.py` rotates and scales, `intensity.py` holds the occasional changes of intensity. All of it
runs where the voxels are, on the CPU or on a GPU.

Nothing is ever mirrored: the reports speak of left and right, upper and lower.

(D, H, W) = (z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uvlm.arrays import Voxels
from uvlm.config import AugmentConfig, Grid
from uvlm.seeding import generator
from uvlm.train.augmentation.intensity import normal_like, vary
from uvlm.train.augmentation.spatial import draw_warp


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
    moved = roll(torch.from_numpy(x), draw_roll(config, rng))
    return augment_intensity(moved, config, rng).numpy()


def augment_intensity(x: Tensor, config: AugmentConfig, rng: np.random.Generator) -> Tensor:
    """Apply gamma, scale, shift and noise, each normally distributed with its own deviation."""
    # All three are always drawn, so that switching one on leaves the others as they were.
    scale, shift, log_gamma = rng.standard_normal(3)
    if config.gamma_std > 0:
        x = bend(x, float(np.exp(config.gamma_std * log_gamma)))
    x = (x * _single(1 + config.scale_std * scale)).add_(_single(config.shift_std * shift))
    if config.noise_std > 0:
        x += normal_like(x, rng).mul_(_single(config.noise_std))
    return vary(x, config.intensity, rng)


def draw_roll(config: AugmentConfig, rng: np.random.Generator) -> Grid:
    """Draw a shift in voxels, uniform between minus and plus `roll_voxels`."""
    z, y, x = (int(rng.integers(-limit, limit + 1)) for limit in config.roll_voxels)
    return z, y, x


def roll(x: Tensor, shift: Grid) -> Tensor:
    """Move the content by `shift` voxels; border voxels are repeated, nothing wraps around."""
    if not any(shift):
        return x
    steps = [max(1 - n, min(n - 1, step)) for n, step in zip(x.shape, shift, strict=True)]
    pairs = list(zip(x.shape, steps, strict=True))
    # One copy of what stays inside, then the borders axis by axis, each from what is there by then.
    moved = torch.empty_like(x)
    inside = tuple(slice(max(0, step), n + min(0, step)) for n, step in pairs)
    taken = tuple(slice(max(0, -step), n - max(0, step)) for n, step in pairs)
    moved[inside] = x[taken]
    for axis, (n, step) in enumerate(pairs):
        if step > 0:
            moved.narrow(axis, 0, step).copy_(moved.narrow(axis, step, 1))
        elif step < 0:
            moved.narrow(axis, n + step, -step).copy_(moved.narrow(axis, n + step - 1, 1))
    return moved


def bend(x: Tensor, gamma: float) -> Tensor:
    """Bend the intensities between the smallest and the largest value."""
    low, high = torch.aminmax(x)
    spread = (high.double() - low.double()).to(x.dtype)
    share = (x - low).div_(torch.where(spread > 0, spread, 1.0))  # a constant has no spread
    return _power(share, gamma).mul_(spread).add_(low)


def _power(share: Tensor, exponent: float) -> Tensor:
    """Raise to a power; on the CPU with NumPy's, whose last bits every trained model here has."""
    if share.device.type != "cpu":
        return share**exponent
    return torch.from_numpy(share.numpy() ** np.float32(exponent))


def _single(number: float) -> float:
    """Round to float32 as NumPy did, so that the bits stay."""
    return float(np.float32(number))
