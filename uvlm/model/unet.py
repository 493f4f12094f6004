"""The shared encoder and the U-Net of objective 1: nnU-Net's own residual U-Net.

Structure and names are dynamic-network-architectures' ResidualEncoderUNet, so nnU-Net weights load
as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn


def encoder_arguments(
    channels: Sequence[int], strides: Sequence[int], blocks: Sequence[int]
) -> dict[str, Any]:
    """List what nnU-Net's encoder and U-Net are made of; one entry per stage, shallow to deep."""
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
