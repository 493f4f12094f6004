"""Soft Dice and cross-entropy of one resolution, in one pass over the voxels without one-hot maps.

The volume is processed in slabs: each slab's softmax gives the class sums in the forward pass and,
once the sums are known, the gradient in the backward pass. The extra memory is the gradient and,
for contiguous logits, one number per voxel.

    memory format      slab
    channels_last_3d   rows (N, C), as the U-Net returns them
    contiguous         columns (C, N)

With p = softmax(z), y the true class, d_c = P_c + T_c the Dice denominator and m_c = 1/M:

    dDice/dz_c = p_c (b_c + a_y p_y - sum_k b_k p_k) - [c = y] a_y p_y
    dCE/dz_c   = w_y (p_c - [c = y]) / W

where a_c = 2 m_c / d_c and b_c = m_c (2 I_c + s) / d_c^2. A voxel of IGNORE_ID is in no sum.

B batch, C classes, (D, H, W) = (z, y, x), N voxels of a slab.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import torch
from torch import Tensor

from uvlm.data.label_scheme import IGNORE_ID

SMOOTH: Final = 1e-5
_LEAST_WEIGHT: Final = 1e-12
SLAB_ELEMENTS = 1 << 18
_Coefficients = tuple[Tensor, Tensor, Tensor]  # a, b and w of the gradient, (C,) each


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
        logits: (B, C, D, H, W), any memory format.
        target: (B, D, H, W) integer class ids; voxels of IGNORE_ID count in neither term.
        weights: (C,) cross-entropy weights.
        dice_classes: which foreground classes the Dice term averages over.

    Returns:
        The Dice loss in [0, 1] and the cross-entropy, both scalar; 0 where every voxel is ignored.
    """
    apply: Callable[..., tuple[Tensor, Tensor]] = _DiceCrossEntropy.apply
    return apply(logits, target, weights, dice_classes == "all")


@dataclass(eq=False)
class _Sums:
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

    def add(self, slab: _Slab, log_p_true: Tensor, predicted: Tensor) -> None:
        """Add a slab, given log p[y] (N,) and its sums of p (C,)."""
        log_p_true, p_true = slab.of_known(log_p_true), slab.of_known(log_p_true.exp())
        self.log_loss -= (self.weights[slab.truth] * log_p_true).sum()
        self.predicted += predicted
        self.overlap += torch.bincount(slab.truth, p_true, minlength=len(self.weights))
        self.truth += torch.bincount(slab.truth, slab.known, minlength=len(self.weights))

    def weight(self) -> Tensor:
        """Sum w[y], large enough to divide by."""
        return (self.truth * self.weights).sum().clamp(min=_LEAST_WEIGHT)

    def denominator(self) -> Tensor:
        """Compute the denominators of Dice, (C,)."""
        return self.predicted + self.truth + SMOOTH

    def counted(self, every_class: bool) -> Tensor:
        """Weigh the Dice classes by 1 / their number and all others by 0: (C,)."""
        counted = torch.ones_like(self.truth) if every_class else (self.truth > 0).double()
        counted[0] = 0.0
        return counted / counted.sum().clamp(min=1)


class _DiceCrossEntropy(torch.autograd.Function):
    """Both losses, with the analytic gradient of the module's docstring."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, weights: Tensor, every_class: bool
    ) -> tuple[Tensor, Tensor]:
        sums = _Sums.empty(weights)
        log_totals = _add_columns(sums, logits, target) if _lies_in_columns(logits) else None
        if log_totals is None:
            _add_rows(sums, logits, target)
        counted = sums.counted(every_class)
        dice = (2 * sums.overlap + SMOOTH) / sums.denominator()
        ctx.save_for_backward(logits, target, log_totals)
        ctx.sums, ctx.counted = sums, counted
        return (counted * (1 - dice)).sum().float(), (sums.log_loss / sums.weight()).float()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None, None]:
        logits, target, log_totals = ctx.saved_tensors
        sums: _Sums = ctx.sums
        denominator = sums.denominator()
        a = (grads[0] * 2 * ctx.counted / denominator).float()
        b = (grads[0] * ctx.counted * (2 * sums.overlap + SMOOTH) / denominator**2).float()
        w = (grads[1] * sums.weights / sums.weight()).float()
        gradient = torch.empty_like(logits)
        if log_totals is None:
            _fill_rows(gradient, logits, target, (a, b, w))
        else:
            _fill_columns(gradient, logits, target, (a, b, w), log_totals)
        return gradient, None, None, None


@dataclass(frozen=True, eq=False)
class _Slab:
    """Neighbouring voxels: their logits, where their gradient goes, their true classes."""

    logits: Tensor  # (N, C) or (C, N), float32
    out: Tensor  # the same voxels of the gradient
    truth: Tensor  # (N,), 0 where ignored
    known: Tensor | None  # (N,) 0 where ignored, else 1; None if all are known

    def of_known(self, values: Tensor) -> Tensor:
        """Keep the values (N,) of known voxels, 0 for the others."""
        return values if self.known is None else values * self.known


def _add_rows(sums: _Sums, logits: Tensor, target: Tensor) -> None:
    for slab in _row_slabs(logits, target, logits):
        log_p = slab.logits.log_softmax(dim=1)  # (N, C)
        log_p_true = log_p.gather(1, slab.truth.unsqueeze(1)).squeeze(1)
        p = log_p.exp_()  # in place: log p is no longer needed
        sums.add(slab, log_p_true, p.sum(dim=0) if slab.known is None else slab.known @ p)


def _fill_rows(gradient: Tensor, logits: Tensor, target: Tensor, abw: _Coefficients) -> None:
    a, b, w = abw
    for slab in _row_slabs(logits, target, gradient):
        p = slab.logits.softmax(dim=1)  # (N, C)
        truth_column = slab.truth.unsqueeze(1)
        attraction = a[slab.truth] * p.gather(1, truth_column).squeeze(1)
        weight = w[slab.truth]
        # Both gradients share the factor p_c, so one product forms them; see the formulas above.
        offset = attraction + weight - p @ b
        p *= b + offset.unsqueeze(1)
        p.scatter_add_(1, truth_column, -(attraction + weight).unsqueeze(1))
        if slab.known is not None:
            p *= slab.known.unsqueeze(1)
        slab.out.copy_(p.view(slab.out.shape))


def _add_columns(sums: _Sums, logits: Tensor, target: Tensor) -> Tensor:
    """Return the log of the sum of exp(logits) of every voxel, (B, D * H * W)."""
    log_totals = logits.new_empty((len(logits), target[0].numel()), dtype=torch.float32)
    for slab, log_total in _column_slabs(logits, target, logits, log_totals):
        largest = slab.logits.amax(dim=0)  # subtracted, so that exp cannot overflow
        powers = (slab.logits - largest).exp_()  # (C, N)
        total = powers.sum(dim=0)
        # p is never formed: its sums over the voxels are `powers` times 1 / total.
        share = slab.of_known(total.reciprocal())
        torch.add(total.log_(), largest, out=log_total)
        log_p_true = slab.logits.gather(0, slab.truth.unsqueeze(0)).squeeze(0) - log_total
        sums.add(slab, log_p_true, powers @ share)
    return log_totals


def _fill_columns(
    gradient: Tensor, logits: Tensor, target: Tensor, abw: _Coefficients, log_totals: Tensor
) -> None:
    a, b, w = abw
    for slab, log_total in _column_slabs(logits, target, gradient, log_totals):
        p = (slab.logits - log_total).exp_()  # (C, N), without summing over the classes again
        truth_row = slab.truth.unsqueeze(0)
        attraction = a[slab.truth] * p.gather(0, truth_row).squeeze(0)
        weight = w[slab.truth]
        offset = attraction + weight - b @ p
        p *= b.unsqueeze(1) + offset
        p.scatter_add_(0, truth_row, -(attraction + weight).unsqueeze(0))
        if slab.known is not None:
            p *= slab.known
        slab.out.copy_(p)


def _lies_in_columns(logits: Tensor) -> bool:
    in_rows = logits.is_contiguous(memory_format=torch.channels_last_3d)
    return logits.is_contiguous() and not in_rows


def _row_slabs(logits: Tensor, target: Tensor, out: Tensor) -> Iterator[_Slab]:
    """Yield slabs of a few slices; `out` is viewed as (d, H, W, C)."""
    num_classes, depth, height, width = logits.shape[1:]
    thickness = max(1, SLAB_ELEMENTS // (num_classes * height * width))
    for sample in range(len(logits)):
        for start in range(0, depth, thickness):
            part = slice(start, start + thickness)
            rows = logits[sample, :, part].permute(1, 2, 3, 0).reshape(-1, num_classes).float()
            truth, known = _truth(target[sample, part])
            yield _Slab(rows, out[sample, :, part].permute(1, 2, 3, 0), truth, known)


def _column_slabs(
    logits: Tensor, target: Tensor, out: Tensor, log_totals: Tensor
) -> Iterator[tuple[_Slab, Tensor]]:
    """Yield slabs of a few thousand voxels, each with its part of `log_totals`."""
    length = max(1, SLAB_ELEMENTS // logits.shape[1])
    columns, results, labels = logits.flatten(2), out.flatten(2), target.flatten(1)
    for sample in range(len(logits)):
        for start in range(0, columns.shape[2], length):
            part = slice(start, start + length)
            truth, known = _truth(labels[sample, part])
            slab = _Slab(columns[sample, :, part].float(), results[sample, :, part], truth, known)
            yield slab, log_totals[sample, part]


def _truth(target: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return true classes (N,) with 0 for ignored voxels, and which are known unless all are."""
    truth = target.reshape(-1).long()
    known = truth != IGNORE_ID
    if bool(known.all()):  # the usual case needs no masks
        return truth, None
    # An ignored voxel must still be a valid index; its values are masked away.
    return truth * known, known.float()
