"""The shared encoder and the U-Net of objective 1: nnU-Net's own residual U-Net.

Structure and names are dynamic-network-architectures' ResidualEncoderUNet, so nnU-Net weights load
as they are. The encoder returns one feature map per stage, shallow to deep.

B batch, C channels, (D, H, W) = (z, y, x) voxels, S stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from torch import nn


def residual_unet(
    channels: Sequence[int],
    strides: Sequence[int],
    blocks: Sequence[int],
    decoder_convs: int,
    num_classes: int,
    deep_supervision: bool = True,
) -> ResidualEncoderUNet:
    """Make a He-initialised U-Net: (B, 1, D, H, W) -> logits (B, num_classes, D, H, W).

    Each of the first three has one entry per stage. With deep supervision the output is a list of
    logits instead, full resolution first, one per stage but the deepest. Setting
    `unet.decoder.deep_supervision` switches a built network.
    """
    unet = ResidualEncoderUNet(
        num_classes=num_classes,
        n_conv_per_stage_decoder=decoder_convs,
        deep_supervision=deep_supervision,
        **_encoder_arguments(channels, strides, blocks),
    )
    unet.apply(ResidualEncoderUNet.initialize)
    return unet


def residual_encoder(
    channels: Sequence[int], strides: Sequence[int], blocks: Sequence[int]
) -> ResidualEncoder:
    """Make the encoder alone: (B, 1, D, H, W) -> S features (B, C_i, D_i, H_i, W_i)."""
    encoder = ResidualEncoder(return_skips=True, **_encoder_arguments(channels, strides, blocks))
    encoder.apply(ResidualEncoderUNet.initialize)
    return encoder


def _encoder_arguments(
    channels: Sequence[int], strides: Sequence[int], blocks: Sequence[int]
) -> dict[str, Any]:
    """List the arguments that nnU-Net's encoder and U-Net share."""
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
