"""Dice and cross-entropy on a GPU: a whole sample at a time, and no number that the host waits for.

A GPU idles while small kernels are launched one by one, and while the host reads a number back. So
there are no slabs, ignored voxels are always masked, and the bins of the classes have a fixed size.
The sums are the same in every run, because no float is added atomically.

    memory format      logits                                   axis of the classes
    channels_last_3d   (B, N, C), as the U-Net returns them     2
    contiguous         (B, C, N)                                1

The extra memory is the gradient, a float32 copy of one sample (twice, if the logits are not
float32), and a few numbers per voxel.

B batch, C classes, N voxels of a sample.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from uvlm.data.label_scheme import IGNORE_ID
from uvlm.train.losses.dice_sums import Coefficients, Kept, Sums

# Probabilities are added as whole multiples of 2^-32; an int64 holds 2^31 voxels of one class.
_ONE: Final = 2**32
# Most voxels are background and would queue for a single bin, so every class has this many.
_BINS: Final = 256


def add_samples(sums: Sums, logits: Tensor, target: Tensor) -> Kept:
    """Add all voxels to `sums`.

    Returns:
        Of every voxel: the log of the sum of exp(logits), which is infinite where it is ignored, so
        that its p is 0 without a mask; the true class; whether it is known.
    """
    axis, z = _voxels(logits)
    labels = target.flatten(1).unsqueeze(axis)  # (B, N, 1) or (B, 1, N), as all that follows
    known = labels != IGNORE_ID
    truth = labels.long() * known  # an ignored voxel must still be a valid index
    log_p_true = torch.empty_like(truth, dtype=torch.float32)
    for sample, index, is_known, out in zip(z, truth, known, log_p_true, strict=True):
        sums.predicted += _predicted(sample, index, is_known, axis - 1, out)
    log_totals = (z.gather(axis, truth) - log_p_true).masked_fill_(~known, torch.inf)
    sums.log_loss -= (sums.weights[truth] * log_p_true * known).sum()
    p_true = log_p_true.exp_().mul_(known)
    shares = torch.stack([(p_true * _ONE).long(), known.long()]).flatten(1)
    overlap, voxels = _by_class(truth.flatten(), shares, len(sums.weights))
    sums.overlap += overlap / _ONE
    sums.truth += voxels
    return log_totals, truth, known


def fill_samples(logits: Tensor, target: Tensor, abw: Coefficients, kept: Kept) -> Tensor:
    """Return the gradient of the logits, given what `add_samples` kept."""
    a, b, w = abw
    log_totals, truth, known = kept
    axis, z = _voxels(logits)
    p_true = (z.gather(axis, truth) - log_totals).exp_()
    pull = (a[truth] * p_true + w[truth] * known).neg_()  # on the true class
    gradient = torch.empty_like(_dense(logits))
    rows = zip(z, log_totals, truth, pull, _voxels(gradient)[1], strict=True)
    for sample, log_total, index, pulled, out in rows:
        _fill(sample, log_total, index, pulled, b, axis - 1, out)
    return gradient


# One sample each, in functions of their own: what they hold is gone before the next sample.


def _predicted(z: Tensor, truth: Tensor, known: Tensor, axis: int, log_p_true: Tensor) -> Tensor:
    """Write log p[y] and return the sums of p over the known voxels, (C,)."""
    log_p = z.log_softmax(axis, dtype=torch.float32)
    torch.gather(log_p, axis, truth, out=log_p_true)
    p = log_p.exp_().mul_(known)  # in place: log p is no longer needed
    return p.sum(dim=1 - axis)


def _fill(
    z: Tensor, log_total: Tensor, truth: Tensor, pull: Tensor, b: Tensor, axis: int, out: Tensor
) -> None:
    """Write the gradient; one of float32 is formed where it stays."""
    p = out if out.dtype == torch.float32 else torch.empty_like(out, dtype=torch.float32)
    torch.sub(z, log_total, out=p).exp_()
    expected = torch.mv(p if axis == 1 else p.t(), b).unsqueeze(axis)
    # Both gradients share the factor p_c, so one product forms them.
    p *= b.unsqueeze(1 - axis) - expected.add_(pull)
    p.scatter_add_(axis, truth, pull)
    if p is not out:
        out.copy_(p)


def _voxels(logits: Tensor) -> tuple[int, Tensor]:
    """View logits as they lie in memory, (B, N, C) or (B, C, N); first the axis of the classes."""
    dense = _dense(logits)
    columns = dense.flatten(2)
    return (1, columns) if dense.is_contiguous() else (2, columns.transpose(1, 2))


def _dense(logits: Tensor) -> Tensor:
    """Copy logits that lie in neither of the two memory formats."""
    in_rows = logits.is_contiguous(memory_format=torch.channels_last_3d)
    return logits if in_rows else logits.contiguous()


def _by_class(truth: Tensor, shares: Tensor, num_classes: int) -> Tensor:
    """Sum integers (k, N) over the voxels of each class, (k, C).

    Integers have the same sum in whatever order they are added; floats have not.
    """
    bins = shares.new_zeros((len(shares), num_classes * _BINS))
    lane = torch.arange(len(truth), device=truth.device) % _BINS
    bins.index_add_(1, truth * _BINS + lane, shares)
    return bins.view(len(shares), num_classes, _BINS).sum(dim=2)
