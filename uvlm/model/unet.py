"""The shared encoder and the U-Net of objective 1: nnU-Net's own residual U-Net.

Structure and weight names are those of dynamic-network-architectures' ResidualEncoderUNet, so that
nnU-Net weights load unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

# The smallest output side, in voxels, at which oneDNN convolves in bf16 correctly.
_SMALLEST_SIDE = 3


class Convolution(nn.Conv3d):
    """A padded convolution that a CPU computes in float32 where bf16 would go wrong.

    On a CPU without AMX, oneDNN 3.12's bf16 convolutions of one or two voxels along an axis read
    memory that nobody wrote (the gradient of the weights, and the output for a single channel) or
    write past its end. Its float32 convolutions are right.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, D, H, W)."""
        dtype = self._dtype()
        if x.device.type != "cpu" or dtype != torch.bfloat16 or not self._is_small(x):
            return super().forward(x)
        bias = None if self.bias is None else self.bias.float()
        with torch.autocast("cpu", enabled=False):  # the backward pass has the types of this one
            y: Tensor = self._conv_forward(x.float(), self.weight.float(), bias)
        return y.to(dtype)

    def _dtype(self) -> torch.dtype:
        is_cast = torch.is_autocast_enabled("cpu")
        return torch.get_autocast_dtype("cpu") if is_cast else self.weight.dtype

    def _is_small(self, x: Tensor) -> bool:
        sides = zip(x.shape[-3:], self.stride, strict=True)
        return min(-(-side // stride) for side, stride in sides) < _SMALLEST_SIDE


def use_safe_convolutions(network: nn.Module) -> None:
    """Make every Conv3d a `Convolution` in place; weights and their names stay.

    nnU-Net's blocks take torch's classes only, so the modules change theirs once they are built.
    """
    for module in network.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = Convolution


def encoder_arguments(
    channels: Sequence[int], strides: Sequence[int], blocks: Sequence[int]
) -> dict[str, Any]:
    """Return the arguments that nnU-Net's encoder and U-Net share.

    `channels`, `strides` and `blocks` have one entry per stage, shallow to deep.
    """
    return {
        "input_channels": 1,
        "n_stages": len(channels),
        "features_per_stage": list(channels),
        "conv_op": nn.Conv3d,
        "kernel_sizes": 3,
        "strides": list(strides),
        "n_blocks_per_stage": list(blocks),
        "conv_bias": True,
        "norm_op": nn.InstanceNorm3d,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }
