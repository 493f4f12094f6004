"""The shared encoder and the U-Net of objective 1: nnU-Net's own residual U-Net.

Structure and weight names are those of dynamic-network-architectures' ResidualEncoderUNet, so that
nnU-Net weights load unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn


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
