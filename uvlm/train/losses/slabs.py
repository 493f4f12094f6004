"""Dice and cross-entropy on a CPU: in slabs of a cache's size, in one pass over the voxels.

Each slab's softmax gives the class sums in the forward pass and, once the sums are known, the
gradient in the backward pass. The extra memory is the gradient and, for contiguous logits, one
number per voxel.

    memory format      slab
    channels_last_3d   rows (N, C), as the U-Net returns them
    contiguous         columns (C, N)

B batch, C classes, (D, H, W) = (z, y, x), N voxels of a slab.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from uvlm.data.label_scheme import IGNORE_ID
from uvlm.train.losses.dice_sums import Coefficients, Kept, Sums

SLAB_ELEMENTS = 1 << 18


def add_slabs(sums: Sums, logits: Tensor, target: Tensor) -> Kept:
    """Add all voxels to `sums`; keep the log totals of columns."""
    if _lies_in_columns(logits):
        return (_add_columns(sums, logits, target),)
    _add_rows(sums, logits, target)
    return ()


def fill_slabs(logits: Tensor, target: Tensor, abw: Coefficients, kept: Kept) -> Tensor:
    """Return the gradient of the logits, given what `add_slabs` kept."""
    gradient = torch.empty_like(logits)
    if kept:
        _fill_columns(gradient, logits, target, abw, *kept)
    else:
        _fill_rows(gradient, logits, target, abw)
    return gradient


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

    def add_to(self, sums: Sums, log_p_true: Tensor, predicted: Tensor) -> None:
        """Add this slab, given log p[y] (N,) and its sums of p (C,)."""
        log_p_true, p_true = self.of_known(log_p_true), self.of_known(log_p_true.exp())
        sums.log_loss -= (sums.weights[self.truth] * log_p_true).sum()
        sums.predicted += predicted
        sums.overlap += torch.bincount(self.truth, p_true, minlength=len(sums.weights))
        sums.truth += torch.bincount(self.truth, self.known, minlength=len(sums.weights))


def _add_rows(sums: Sums, logits: Tensor, target: Tensor) -> None:
    for slab in _row_slabs(logits, target, logits):
        log_p = slab.logits.log_softmax(dim=1)  # (N, C)
        log_p_true = log_p.gather(1, slab.truth.unsqueeze(1)).squeeze(1)
        p = log_p.exp_()  # in place: log p is no longer needed
        slab.add_to(sums, log_p_true, p.sum(dim=0) if slab.known is None else slab.known @ p)


def _fill_rows(gradient: Tensor, logits: Tensor, target: Tensor, abw: Coefficients) -> None:
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


def _add_columns(sums: Sums, logits: Tensor, target: Tensor) -> Tensor:
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
        slab.add_to(sums, log_p_true, powers @ share)
    return log_totals


def _fill_columns(
    gradient: Tensor, logits: Tensor, target: Tensor, abw: Coefficients, log_totals: Tensor
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
