"""Occasional changes of intensity: nnU-Net's list, each with a probability and a strength.

Factors and exponents fall below and above 1 equally often, as there.

(D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uvlm.config import Chance, IntensityConfig
from uvlm.seeding import happens

Bounds = tuple[float, float]


def vary(x: Tensor, config: IntensityConfig, rng: np.random.Generator) -> Tensor:
    """Draw for every change whether it happens; `x` (D, H, W) itself is not modified."""
    for name, change in _CHANGES.items():
        chance: Chance = getattr(config, name)
        if happens(chance.probability, rng):
            x = change(x, chance.between, rng)
    return x


def add_noise(x: Tensor, between: Bounds, rng: np.random.Generator) -> Tensor:
    """Add normal noise."""
    noise = normal_like(x, rng)
    return torch.add(x, noise, alpha=rng.uniform(*between))


def normal_like(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw a standard normal number for every voxel, where the voxels are.

    A device has a stream of its own: another than the CPU's, but keyed by a draw from it.
    """
    if x.device.type == "cpu":
        return torch.from_numpy(rng.standard_normal(tuple(x.shape), dtype=np.float32))
    stream = torch.Generator(x.device).manual_seed(int(rng.integers(2**63 - 1)))
    return torch.randn(x.shape, generator=stream, device=x.device)


def blur(x: Tensor, between: Bounds, rng: np.random.Generator) -> Tensor:
    """Average with Gaussian weights along each axis; at the border, over existing voxels only."""
    # A Gaussian is separable: one matrix product per axis instead of a 3D convolution.
    for axis, sigma in enumerate(rng.uniform(*between, 3)):
        places = torch.arange(x.shape[axis], dtype=torch.float32, device=x.device)
        weights = torch.exp(-0.5 * ((places - places[:, None]) / sigma) ** 2)
        weights /= weights.sum(dim=1, keepdim=True)
        x = (x.movedim(axis, -1) @ weights.t()).movedim(-1, axis)
    return x.contiguous()


def brighten(x: Tensor, between: Bounds, rng: np.random.Generator) -> Tensor:
    """Multiply by a factor."""
    return x * _factor(between, rng)


def change_contrast(x: Tensor, between: Bounds, rng: np.random.Generator) -> Tensor:
    """Stretch around the mean, within the original range."""
    low, high = torch.aminmax(x)
    return torch.lerp(x.mean(), x, _factor(between, rng)).clamp_(low, high)


def lower_resolution(x: Tensor, between: Bounds, rng: np.random.Generator) -> Tensor:
    """Keep a share of the voxels along every axis and interpolate between them."""
    share = rng.uniform(*between)
    shape = [max(1, round(size * share)) for size in x.shape]
    kept = F.interpolate(x[None, None], shape, mode="nearest-exact")
    return F.interpolate(kept, x.shape, mode="trilinear")[0, 0]


def bend(x: Tensor, between: Bounds, rng: np.random.Generator) -> Tensor:
    """Raise the values, scaled to [0, 1], to a power; restore their mean and deviation."""
    low, high = torch.aminmax(x)
    spread = (high - low).clamp(min=1e-7)  # a constant patch must not divide by 0
    bent = ((x - low) / spread) ** _factor(between, rng)
    scale = x.std() / bent.std().clamp(min=1e-7)
    return (bent - bent.mean()) * scale + x.mean()


def bend_inverted(x: Tensor, between: Bounds, rng: np.random.Generator) -> Tensor:
    """Do the same from the other end."""
    return -bend(-x, between, rng)


def _factor(between: Bounds, rng: np.random.Generator) -> float:
    low, high = between
    # A uniform draw from (0.7, 1.5) would exceed 1 more often than not: choose the side first.
    below = high <= 1 or (low < 1 and bool(rng.random() < 0.5))
    return float(rng.uniform(low, min(1.0, high)) if below else rng.uniform(max(low, 1.0), high))


# In the order in which they are drawn and applied.
_CHANGES: Final[dict[str, Callable[[Tensor, Bounds, np.random.Generator], Tensor]]] = {
    "noise": add_noise,
    "blur": blur,
    "brightness": brighten,
    "contrast": change_contrast,
    "low_resolution": lower_resolution,
    "inverted_gamma": bend_inverted,
    "gamma": bend,
}
