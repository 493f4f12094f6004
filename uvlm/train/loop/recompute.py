"""Gradient checkpointing of the encoder: more time for less memory, the same gradients.

A residual block keeps its input only; what lies between is computed again on the way back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def recompute_blocks(encoder: ResidualEncoder) -> None:
    """Let every residual block of `encoder` do so from now on; names of weights stay."""
    for stage in encoder.stages:
        for block in stage.blocks:
            block.forward = partial(_recomputed, block.forward)


def _recomputed(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Run a block, which draws no random numbers."""
    y: Tensor = checkpoint(forward, x, use_reentrant=False, preserve_rng_state=False)
    return y
