"""Feature alignment (paper eq. 4): every encoder stage becomes K visual tokens.

Stages count from 1, shallow to deep, as S_1 ... S_N in the paper. Token k of a stage is the voxel
k = (z * H + y) * W + x of its (D, H, W) grid.

B batch, C channels, (D, H, W) feature grid in (z, y, x) order, K visual tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from operator import mul
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from uvlm.errors import ConfigError

Pooling = Literal["average", "max"]
Deeper = Literal["zeros", "interpolated"]


def align(
    features: Sequence[Tensor], reference_stage: int, pooling: Pooling, deeper: Deeper = "zeros"
) -> list[Tensor]:
    """Give every encoder stage the token count of the reference stage (eq. 4).

    Shallower stages are pooled onto the reference grid, the reference stage is only flattened,
    and deeper stages keep their own voxels, padded with zero tokens at the end.

    Args:
        features: one (B, C_i, D_i, H_i, W_i) per stage, shallow to deep.
        reference_stage: r, from 1; its voxel count is K.
        pooling: `average`, or `max`, which keeps findings of a few voxels.
        deeper: `zeros`, or `interpolated`: every voxel of a deeper stage is repeated over the
            reference voxels it covers, so that token k is the same place in every stage.

    Returns:
        One (B, K, C_i) per stage, in the same order.
    """
    pool = F.adaptive_avg_pool3d if pooling == "average" else F.adaptive_max_pool3d
    depth, height, width = features[reference_stage - 1].shape[2:]
    grid = (depth, height, width)
    aligned = []
    for stage, feature in enumerate(features, start=1):
        if stage < reference_stage:
            feature = pool(feature, grid)
        elif stage > reference_stage and deeper == "interpolated":
            # "nearest" would shift the grids by half a voxel against each other
            feature = F.interpolate(feature, grid, mode="nearest-exact")
        tokens = feature.flatten(2).transpose(1, 2)  # (B, K_i, C_i), K_i <= K
        aligned.append(F.pad(tokens, (0, 0, 0, prod(grid) - tokens.shape[1])))
    return aligned


def deepest_tokens(
    tokens: Tensor, grids: Sequence[Sequence[int]], reference_stage: int, deeper: Deeper
) -> Tensor:
    """Recover f_N as the encoder made it (B, K_N, C) from its aligned tokens (B, K, C)."""
    if deeper == "zeros":
        return tokens[:, : prod(grids[-1])]
    # Interpolation repeated every voxel of f_N in a block of z * y * x: take one of each block.
    wide = tuple(grids[reference_stage - 1])
    z, y, x = (size // deepest for size, deepest in zip(wide, grids[-1], strict=True))
    own: Tensor = tokens.unflatten(1, wide)[:, ::z, ::y, ::x].flatten(1, 3)
    return own


def feature_grids(grid: Sequence[int], strides: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the grid of every stage's features for an input of `grid` voxels."""
    whole = prod(strides)
    if any(size % whole for size in grid):
        fact = f"{list(grid)} is not a multiple of {whole}, the product of encoder.strides"
        raise ConfigError("preprocess.grid", fact, f"use multiples of {whole}")
    return [tuple(size // step for size in grid) for step in accumulate(strides, mul)]


def token_counts(
    grid: Sequence[int], strides: Sequence[int], reference_stage: int, deeper: Deeper = "zeros"
) -> list[int]:
    """Count the tokens of every stage that are not padding: K_i <= K."""
    voxels = [prod(stage_grid) for stage_grid in feature_grids(grid, strides)]
    if deeper == "interpolated":
        return [voxels[reference_stage - 1]] * len(voxels)
    return [min(count, voxels[reference_stage - 1]) for count in voxels]


def num_visual_tokens(grid: Sequence[int], strides: Sequence[int], reference_stage: int) -> int:
    """Return K, the number of voxels of the reference stage."""
    return token_counts(grid, strides, reference_stage)[reference_stage - 1]
