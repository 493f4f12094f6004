"""Losses of stages 1 and 2: Dice + cross-entropy over several resolutions, weights of positives.

B batch, C classes, (D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from uvlm.data.label_scheme import IGNORE_ID
from uvlm.train.losses.dice_cross_entropy import dice_cross_entropy


def class_weights(voxels_per_class: Tensor, power: float, cap: float) -> Tensor:
    """Weigh a class by (1 / frequency) ^ power, at most `cap`; background and unseen get 1."""
    # The clamp keeps classes without a voxel from infinity until they are set to 1.
    frequency = voxels_per_class.double() / voxels_per_class.sum().clamp(min=1)
    weights = frequency.clamp(min=1e-12).pow(-power).clamp(max=cap)
    weights[voxels_per_class == 0] = 1.0
    weights[0] = 1.0
    return weights.float()


def positive_weights(abnormalities: Tensor, cap: float) -> Tensor:
    """Weigh a positive in the BCE, (A,): negatives per positive in (N, A), at most `cap`.

    An abnormality that no case or every case shows keeps 1.
    """
    positives = abnormalities.sum(dim=0).double()
    negatives = len(abnormalities) - positives
    # All positives together then weigh as much as all negatives.
    weights = (negatives / positives.clamp(min=1)).clamp(max=cap)
    weights[(positives == 0) | (negatives == 0)] = 1.0
    return weights.float()


def deep_supervision_loss(
    outputs: Sequence[Tensor],
    target: Tensor,
    weights: Tensor,
    level_weights: Sequence[float],
    dice_classes: Literal["all", "present"] = "present",
) -> dict[str, Tensor]:
    """Average Dice and cross-entropy over resolutions, weighted.

    Low-resolution targets are max-pooled: lesions have the highest ids, so they survive.

    Args:
        outputs: logits (B, C, D_i, H_i, W_i), full resolution first.
        target: (B, D, H, W) integer class ids at full resolution; IGNORE_ID counts in no term.
        weights: (C,) cross-entropy weights.
        level_weights: one per resolution, full first; further outputs do not count.
        dice_classes: which foreground classes the Dice term averages over.
    """
    norm = sum(level_weights)
    dice = cross_entropy = torch.zeros((), device=target.device)
    for logits, level_weight in zip(outputs, level_weights, strict=False):
        if level_weight > 0:
            pooled = pool_labels(target, tuple(logits.shape[2:]))
            terms = dice_cross_entropy(logits, pooled, weights, dice_classes)
            dice = dice + terms[0] * (level_weight / norm)
            cross_entropy = cross_entropy + terms[1] * (level_weight / norm)
    return {"dice": dice, "ce": cross_entropy}


def pool_labels(target: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Pool label maps (B, D, H, W) to a lower resolution; a block's highest known id wins.

    Only a block without a known voxel becomes IGNORE_ID.
    """
    if tuple(target.shape[1:]) == shape:
        return target
    # IGNORE_ID is 255 and would win every maximum; as -1 it loses to the background.
    known = target.float().masked_fill(target == IGNORE_ID, -1.0)
    pooled = F.adaptive_max_pool3d(known, shape)
    return pooled.masked_fill(pooled < 0, IGNORE_ID).to(target.dtype)
