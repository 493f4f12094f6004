"""Soft Dice and cross-entropy of one resolution, without one-hot maps.

The class sums are formed in the forward pass and, once they are known, the gradient in the backward
pass. A CPU goes through the voxels in slabs that fit its cache (slabs.py), a GPU sample by sample
(samples.py). With p = softmax(z), y the true class, d_c = P_c + T_c the Dice denominator and
m_c = 1/M:

    dDice/dz_c = p_c (b_c + a_y p_y - sum_k b_k p_k) - [c = y] a_y p_y
    dCE/dz_c   = w_y (p_c - [c = y]) / W

where a_c = 2 m_c / d_c and b_c = m_c (2 I_c + s) / d_c^2. A voxel of IGNORE_ID is in no sum.

B batch, C classes, (D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor

from uvlm.train.losses.dice_sums import Coefficients, Kept, Sums
from uvlm.train.losses.samples import add_samples, fill_samples
from uvlm.train.losses.slabs import add_slabs, fill_slabs


class Way(NamedTuple):
    """How to go through the voxels; `fill` returns the gradient, given what `add` kept."""

    add: Callable[[Sums, Tensor, Tensor], Kept]
    fill: Callable[[Tensor, Tensor, Coefficients, Kept], Tensor]


SLABS: Final = Way(add_slabs, fill_slabs)
SAMPLES: Final = Way(add_samples, fill_samples)


def way_of(device: torch.device) -> Way:
    """Choose slabs where a cache decides, samples where launching and waiting do."""
    return SLABS if device.type == "cpu" else SAMPLES


def dice_cross_entropy(
    logits: Tensor,
    target: Tensor,
    weights: Tensor,
    dice_classes: Literal["all", "present"] = "present",
    way: Way | None = None,
) -> tuple[Tensor, Tensor]:
    """Soft Dice loss and weighted cross-entropy of one resolution.

    Dice sums a class over the whole batch and averages over foreground classes: all of them, or
    those present in `target`. Cross-entropy is the mean of -w[y] log p[y] over the mean of w[y].

    Args:
        logits: (B, C, D, H, W), any memory format.
        target: (B, D, H, W) integer class ids; voxels of IGNORE_ID count in neither term.
        weights: (C,) cross-entropy weights.
        dice_classes: which foreground classes the Dice term averages over.
        way: by default that of the device.

    Returns:
        The Dice loss in [0, 1] and the cross-entropy, both scalar; 0 where every voxel is ignored.
    """
    apply: Callable[..., tuple[Tensor, Tensor]] = _DiceCrossEntropy.apply
    chosen = way or way_of(logits.device)
    return apply(logits, target, weights, dice_classes == "all", chosen)


class _DiceCrossEntropy(torch.autograd.Function):
    """Both losses, with the analytic gradient of the module's docstring."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, weights: Tensor, every_class: bool, way: Way
    ) -> tuple[Tensor, Tensor]:
        sums = Sums.empty(weights)
        kept = way.add(sums, logits, target)
        ctx.save_for_backward(logits, target, *kept)
        ratios = sums.ratios(every_class)
        ctx.ratios, ctx.way = ratios, way
        return ratios.losses()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None, None, None]:
        logits, target, *kept = ctx.saved_tensors
        gradient = ctx.way.fill(logits, target, ctx.ratios.coefficients(*grads), tuple(kept))
        return gradient, None, None, None, None
