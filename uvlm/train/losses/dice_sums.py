"""What the Dice loss and the cross-entropy of a batch are made of: sums over its known voxels.

C classes, p = softmax of the logits, y the true class of a voxel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import torch
from torch import Tensor

SMOOTH: Final = 1e-5
_LEAST_WEIGHT: Final = 1e-12
Coefficients = tuple[Tensor, Tensor, Tensor]  # a, b and w of the gradient, (C,) each
Kept = tuple[Tensor, ...]  # what the backward pass needs of the forward pass beside the sums


@dataclass(eq=False)
class Sums:
    """Sums over the known voxels of a batch, (C,) each but the last."""

    weights: Tensor  # w
    overlap: Tensor  # sum of p where the class is true
    predicted: Tensor  # sum of p
    truth: Tensor  # voxels of the class
    log_loss: Tensor  # scalar, sum of -w[y] log p[y]

    @classmethod
    def empty(cls, weights: Tensor) -> Self:
        """Start from zeros, in double precision: float32 stops counting at 2^24 voxels."""
        overlap, predicted, truth = weights.new_zeros((3, len(weights)), dtype=torch.float64)
        return cls(weights, overlap, predicted, truth, overlap.new_zeros(()))

    def ratios(self, every_class: bool) -> Ratios:
        """Form the ratios of all sums; Dice counts every foreground class, or those present."""
        counted = torch.ones_like(self.truth) if every_class else (self.truth > 0).double()
        counted[0].zero_()
        return Ratios(
            counted=counted / counted.sum().clamp(min=1),
            numerator=2 * self.overlap + SMOOTH,
            denominator=self.predicted + self.truth + SMOOTH,
            weights=self.weights,
            total_weight=(self.truth * self.weights).sum().clamp(min=_LEAST_WEIGHT),
            log_loss=self.log_loss,
        )


@dataclass(frozen=True, eq=False)
class Ratios:
    """Both losses as ratios of sums, whose parts the gradient needs again; (C,) but for two."""

    counted: Tensor  # m: 1 / their number for the classes that Dice counts, 0 for the others
    numerator: Tensor  # 2 I + s
    denominator: Tensor  # d, with s
    weights: Tensor  # w
    total_weight: Tensor  # scalar W, the sum of w[y], large enough to divide by
    log_loss: Tensor  # scalar

    def losses(self) -> tuple[Tensor, Tensor]:
        """Return Dice loss and cross-entropy."""
        dice = (self.counted * (1 - self.numerator / self.denominator)).sum()
        return dice.float(), (self.log_loss / self.total_weight).float()

    def coefficients(self, grad_dice: Tensor, grad_ce: Tensor) -> Coefficients:
        """Compute a and b of the Dice gradient and w / W of the cross-entropy's."""
        a = (grad_dice * 2 * self.counted / self.denominator).float()
        b = (grad_dice * self.counted * self.numerator / self.denominator**2).float()
        return a, b, (grad_ce * self.weights / self.total_weight).float()
