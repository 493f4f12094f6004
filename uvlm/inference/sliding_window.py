"""Class ids of a whole volume from a network that was trained on patches.

A volume is read in overlapping windows of the patch's size, even where it would fit as a whole:
instance norms take their statistics from what they see, and a network that has only seen patches
loses Dice on anything larger (reports/LOG.md). Logits are summed with Gaussian weights. Windows are
visited in the order of z, so only the sums of one window's depth are held: slices that no later
window reaches are decided and dropped.

B batch, C classes, (D, H, W) = (z, y, x) of the volume, (d, h, w) of a window.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import ceil, prod
from typing import Final

import torch
from torch import Tensor

from uvlm.config import Grid

OVERLAP: Final = 0.5
_SIGMA: Final = 1 / 8  # of the window's edge
_LEAST_WEIGHT: Final = 1e-3
_VOXELS_AT_ONCE: Final = 2**18  # small windows are several times faster together than alone
Network = Callable[[Tensor], Tensor]


def predict_labels(network: Network, x: Tensor, patch: Grid) -> Tensor:
    """Return the likeliest class of every voxel of x (B, 1, D, H, W) as (B, D, H, W) uint8.

    The network was trained on the patch and maps (B, 1, d, h, w) to logits (B, C, d, h, w).
    """
    if all(size <= edge for size, edge in zip(x.shape[2:], patch, strict=True)):
        return network(x).max(dim=1).indices.to(torch.uint8)  # argmax is twice as slow
    return torch.stack([sliding_window_labels(network, sample, patch) for sample in x])


def sliding_window_labels(
    network: Network, x: Tensor, patch: Grid, overlap: float = OVERLAP
) -> Tensor:
    """Slide a window over one volume (1, D, H, W): (D, H, W) uint8."""
    depth, height, width = x.shape[1:]
    window = (min(patch[0], depth), min(patch[1], height), min(patch[2], width))
    starts_z, starts_y, starts_x = (
        window_starts(size, edge, overlap) for size, edge in zip(x.shape[1:], window, strict=True)
    )
    places = [
        (slice(y, y + window[1]), slice(x_, x_ + window[2]))
        for y, x_ in product(starts_y, starts_x)
    ]
    at_once = max(1, _VOXELS_AT_ONCE // prod(window))
    weight = gaussian_weight(window).to(x.device)  # (d, h, w)
    labels = torch.empty((depth, height, width), dtype=torch.uint8, device=x.device)
    sums: Tensor | None = None  # (C, d, H, W), from slice z on
    for z, next_z in zip(starts_z, [*starts_z[1:], depth], strict=True):
        slab = x[:, z : z + window[0]]
        for start in range(0, len(places), at_once):
            chunk = places[start : start + at_once]
            logits = network(torch.stack([slab[:, :, *place] for place in chunk])).float()
            if sums is None:
                sums = logits.new_zeros((logits.shape[1], window[0], height, width))
            for place, part in zip(chunk, logits, strict=True):
                sums[:, :, *place].addcmul_(part, weight)
        assert sums is not None
        # Every class of a voxel has the same total weight, so the maximum needs no division by it.
        labels[z:next_z] = sums[:, : next_z - z].max(dim=0).indices
        sums = _moved_down(sums, next_z - z)
    return labels


def window_starts(size: int, edge: int, overlap: float) -> list[int]:
    """Spread windows evenly over an axis so that neighbours share at least `overlap` of an edge."""
    if size <= edge:
        return [0]
    step = max(1.0, edge * (1 - overlap))
    gaps = ceil((size - edge) / step)
    return [round(index * (size - edge) / gaps) for index in range(gaps + 1)]


def gaussian_weight(window: Grid) -> Tensor:
    """Weight (d, h, w): 1 in the middle, small at the border, where context is one-sided."""
    weight = torch.ones(())
    for edge in window:
        distance = torch.arange(edge) - (edge - 1) / 2
        weight = weight[..., None] * torch.exp(-0.5 * (distance / (edge * _SIGMA)) ** 2)
    return weight.clamp(min=_LEAST_WEIGHT)


def _moved_down(sums: Tensor, slices: int) -> Tensor:
    """Drop the first slices of (C, d, H, W) in place and make room at the end."""
    kept = sums.shape[1] - slices
    for index in range(kept):  # slice by slice: source and target overlap
        sums[:, index] = sums[:, index + slices]
    sums[:, max(kept, 0) :] = 0
    return sums
