"""The loss of stage 1: Dice + cross-entropy with deep supervision.

The segmentation loss never builds a one-hot map: the volume is walked in slabs, each slab's
softmax gives the class sums on the way forward and, once the sums are known, the gradient on the
way back. Extra memory is the gradient itself.

B batch, C classes, (D, H, W) = (z, y, x), N voxels of a slab.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

SMOOTH = 1e-5
SLAB_ELEMENTS = 1 << 18


def class_weights(voxels_per_class: Tensor, power: float, cap: float) -> Tensor:
    """Cross-entropy weight (1 / frequency) ^ power, at most `cap`; background and unseen are 1."""
    frequency = voxels_per_class.double() / voxels_per_class.sum().clamp(min=1)
    weights = frequency.clamp(min=1e-12).pow(-power).clamp(max=cap)
    weights[voxels_per_class == 0] = 1.0
    weights[0] = 1.0
    return weights.float()


def dice_cross_entropy(
    logits: Tensor,
    target: Tensor,
    weights: Tensor,
    dice_classes: Literal["all", "present"] = "present",
) -> tuple[Tensor, Tensor]:
    """Soft Dice loss and weighted cross-entropy of one resolution.

    Dice sums a class over the whole batch and averages over foreground classes: all of them, or
    those present in `target`. Cross-entropy is the mean of -w[y] log p[y] over the mean of w[y].

    Args:
        logits: (B, C, D, H, W), any memory format; channels_last_3d is fastest.
        target: (B, D, H, W) integer class ids.
        weights: (C,) cross-entropy weights.
        dice_classes: which foreground classes the Dice term averages over.

    Returns:
        The Dice loss in [0, 1] and the cross-entropy, both scalar.
    """
    apply: Callable[..., tuple[Tensor, Tensor]] = _DiceCrossEntropy.apply
    return apply(logits, target, weights, dice_classes == "all")


def deep_supervision_loss(
    outputs: Sequence[Tensor],
    target: Tensor,
    weights: Tensor,
    level_weights: Sequence[float],
    dice_classes: Literal["all", "present"] = "present",
) -> dict[str, Tensor]:
    """Dice and cross-entropy over resolutions, as a weighted mean.

    Low-resolution targets are max-pooled: lesions have the higher ids, so they survive.

    Args:
        outputs: logits (B, C, D_i, H_i, W_i), full resolution first.
        target: (B, D, H, W) integer class ids at full resolution.
        weights: (C,) cross-entropy weights.
        level_weights: one per resolution, full first; outputs beyond them do not count.
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
    """Label maps (B, D, H, W) at a lower resolution; the highest id of a block wins."""
    if tuple(target.shape[1:]) == shape:
        return target
    return F.adaptive_max_pool3d(target.float(), shape).to(target.dtype)


@dataclass(frozen=True)
class _Sums:
    """Class sums over a batch, all (C,) but the last."""

    overlap: Tensor  # sum of p where the class is true
    predicted: Tensor  # sum of p
    truth: Tensor  # voxels of the class
    counted: Tensor  # 1 / number of Dice classes for those, 0 elsewhere
    weight: Tensor  # scalar, sum of w[y]


class _DiceCrossEntropy(torch.autograd.Function):
    """Both losses in one walk over the voxels, with the analytic gradient.

    With p = softmax(z), y the true class, d_c = P_c + T_c the Dice denominator and m_c = 1/M:
        dDice/dz_c = p_c (b_c + a_y p_y - sum_k b_k p_k) - [c = y] a_y p_y
        dCE/dz_c   = w_y (p_c - [c = y]) / W
    where a_c = 2 m_c / d_c and b_c = m_c (2 I_c + s) / d_c^2.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, weights: Tensor, every_class: bool
    ) -> tuple[Tensor, Tensor]:
        sums, log_loss = _class_sums(logits, target, weights, every_class)
        dice = (2 * sums.overlap + SMOOTH) / (sums.predicted + sums.truth + SMOOTH)
        ctx.sums = sums
        ctx.save_for_backward(logits, target, weights)
        dice_loss = (sums.counted * (1 - dice)).sum()
        return dice_loss.float(), (log_loss / sums.weight).float()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None, None]:
        logits, target, weights = ctx.saved_tensors
        sums: _Sums = ctx.sums
        denominator = sums.predicted + sums.truth + SMOOTH
        a = (grads[0] * 2 * sums.counted / denominator).float()
        b = (grads[0] * sums.counted * (2 * sums.overlap + SMOOTH) / denominator**2).float()
        w = (grads[1] * weights / sums.weight).float()
        gradient = torch.empty_like(logits)
        for rows, truth, slab in _slabs(logits, target, gradient):
            p = rows.softmax(dim=1)  # (N, C)
            truth_column = truth.unsqueeze(1)
            attraction = a[truth] * p.gather(1, truth_column).squeeze(1)
            weight = w[truth]
            offset = attraction + weight - p @ b
            p *= b + offset.unsqueeze(1)
            p.scatter_add_(1, truth_column, -(attraction + weight).unsqueeze(1))
            slab.copy_(p.view(slab.shape))
        return gradient, None, None, None


def _class_sums(
    logits: Tensor, target: Tensor, weights: Tensor, every_class: bool
) -> tuple[_Sums, Tensor]:
    """Add up what Dice and its gradient need, and the sum of -w[y] log p[y]."""
    num_classes = logits.shape[1]
    overlap, predicted, truth_count = torch.zeros(
        3, num_classes, dtype=torch.float64, device=logits.device
    )
    log_loss = torch.zeros((), dtype=torch.float64, device=logits.device)
    for rows, truth, _ in _slabs(logits, target, logits):
        log_p = rows.log_softmax(dim=1)  # (N, C)
        log_p_true = log_p.gather(1, truth.unsqueeze(1)).squeeze(1)
        log_loss -= (weights[truth] * log_p_true).sum()
        predicted += log_p.exp_().sum(dim=0)
        overlap += torch.bincount(truth, log_p_true.exp(), minlength=num_classes)
        truth_count += torch.bincount(truth, minlength=num_classes)
    counted = torch.ones_like(truth_count) if every_class else (truth_count > 0).double()
    counted[0] = 0.0
    counted /= counted.sum().clamp(min=1)
    weight = (truth_count * weights).sum()
    return _Sums(overlap, predicted, truth_count, counted, weight), log_loss


def _slabs(logits: Tensor, target: Tensor, out: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Slabs of a few slices: float rows (N, C), their true classes (N,), a view of `out`."""
    num_classes, depth, height, width = logits.shape[1:]
    thickness = max(1, SLAB_ELEMENTS // (num_classes * height * width))
    for sample in range(logits.shape[0]):
        for start in range(0, depth, thickness):
            slab = slice(start, start + thickness)
            rows = logits[sample, :, slab].permute(1, 2, 3, 0).reshape(-1, num_classes).float()
            truth = target[sample, slab].reshape(-1).long()
            yield rows, truth, out[sample, :, slab].permute(1, 2, 3, 0)
