"""Dice + cross-entropy over a batch of patches: fused, against MONAI's DiceCELoss."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.measure import cpu_seconds, cpu_seconds_of_both, peak_growth_mb
from benchmarks.ratios import Ratio
from benchmarks.sizes import Size
from uvlm.config import Grid
from uvlm.train.losses.dice_cross_entropy import dice_cross_entropy

BATCH, BLOCK = 2, 8
Inputs = tuple[Tensor, Tensor]


def draw(num_classes: int, patch: Grid, channels_last: bool) -> Inputs:
    """Logits (B, C, D, H, W) and class ids in blocks (B, D, H, W)."""
    torch.manual_seed(0)
    logits = torch.randn(BATCH, num_classes, *patch)
    if channels_last:
        logits = logits.to(memory_format=torch.channels_last_3d)
    target = torch.randint(num_classes, (BATCH, *(edge // BLOCK for edge in patch)))
    for axis in (1, 2, 3):
        target = target.repeat_interleave(BLOCK, axis)
    return logits.requires_grad_(), target.to(torch.uint8)


def ours(inputs: Inputs) -> float:
    """Forward and backward of the loss of stage 1 on one resolution."""
    logits, target = inputs
    logits.grad = None
    dice, cross_entropy = dice_cross_entropy(logits, target, torch.ones(logits.shape[1]), "all")
    loss = dice + cross_entropy
    loss.backward()
    return float(loss.detach())


def monai(inputs: Inputs) -> float:
    """Forward and backward of the same number by MONAI."""
    from monai.losses.dice import DiceCELoss

    logits, target = inputs
    logits.grad = None
    function = DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, batch=True,
        smooth_nr=1e-5, smooth_dr=1e-5,
    )  # fmt: skip
    loss = function(logits, target[:, None].long())
    loss.backward()
    return float(loss.detach())


def measure(size: Size) -> list[Ratio]:
    """Measure all rows of this family."""
    contiguous, last = (draw(size.num_classes, size.patch, flag) for flag in (False, True))
    values = monai(contiguous), ours(last)
    seconds = cpu_seconds_of_both(lambda: monai(contiguous), lambda: ours(last), size.repeats)
    other = cpu_seconds(lambda: ours(contiguous), size.repeats)
    gradient = contiguous[0].nbytes / 2**20
    memory = peak_growth_mb(ours, size.num_classes, size.patch, True, prepare=draw)
    what = f"Dice + cross-entropy, {size.num_classes} classes, {BATCH} x {_times(size.patch)}, fp32"
    return [
        Ratio(f"{what}: forward and backward", "MONAI DiceCELoss", *seconds, "s", 3.0,
              f"medians of {size.repeats} in turn; values {values[0]:.6f} and {values[1]:.6f}; "
              f"logits in the layout that is faster for each: ours channels last, as the U-Net "
              f"gives them (contiguous: {other:.2f} s)."),
        Ratio(f"{what}: memory", "the gradient itself", gradient, memory, "MB", 1 / 1.1,
              "growth of the peak resident set over the inputs, in a process of its own."),
    ]  # fmt: skip


def _times(grid: Grid) -> str:
    return " x ".join(map(str, grid))
