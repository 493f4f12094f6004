"""Alignment (eq. 4) against naive loops over voxels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from uvlm.config import EncoderConfig
from uvlm.errors import ConfigError
from uvlm.model.align import (
    Deeper,
    align,
    deepest_tokens,
    feature_grids,
    num_visual_tokens,
    token_counts,
)
from uvlm.model.build import build_encoder

PAPER_GRID = (192, 256, 256)
PAPER_STRIDES = (1, 2, 2, 2, 2, 2)


@pytest.fixture
def features() -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [(2, 4, 8, 8), (3, 2, 4, 4), (4, 2, 4, 4), (5, 1, 2, 2)]
    return [torch.randn(2, *shape) for shape in shapes]


def naive_align(feature: Tensor, grid: tuple[int, int, int], pooling: str) -> Tensor:
    """Visit every reference voxel, reduce the block of voxels that it covers."""
    batch, channels, *sizes = feature.shape
    block = [size // target for size, target in zip(sizes, grid, strict=True)]
    out = torch.zeros(batch, grid[0] * grid[1] * grid[2], channels)
    for z in range(grid[0]):
        for y in range(grid[1]):
            for x in range(grid[2]):
                cut = feature[
                    :,
                    :,
                    z * block[0] : (z + 1) * block[0],
                    y * block[1] : (y + 1) * block[1],
                    x * block[2] : (x + 1) * block[2],
                ]
                value = cut.amax((2, 3, 4)) if pooling == "max" else cut.mean((2, 3, 4))
                out[:, (z * grid[1] + y) * grid[2] + x] = value
    return out


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_shallower_stages_are_pooled_like_a_loop_over_voxels(
    features: list[Tensor], pooling: str
) -> None:
    aligned = align(features, 2, "max" if pooling == "max" else "average")
    torch.testing.assert_close(aligned[0], naive_align(features[0], (2, 4, 4), pooling))


def test_reference_stage_is_only_flattened(features: list[Tensor]) -> None:
    tokens = align(features, 2, "max")[1]
    assert torch.equal(tokens[0, 1 * 16 + 2 * 4 + 3], features[1][0, :, 1, 2, 3])
    assert torch.equal(tokens, naive_align(features[1], (2, 4, 4), "max"))


def test_a_deeper_stage_of_the_same_grid_is_only_flattened(features: list[Tensor]) -> None:
    assert torch.equal(align(features, 2, "max")[2], naive_align(features[2], (2, 4, 4), "max"))


def test_deeper_stages_keep_their_voxels_and_end_in_zeros(features: list[Tensor]) -> None:
    tokens = align(features, 2, "average")[3]
    assert tokens.shape == (2, 32, 5)
    assert torch.equal(tokens[:, :4], naive_align(features[3], (1, 2, 2), "max"))
    assert torch.count_nonzero(tokens[:, 4:]) == 0


def test_interpolated_deeper_stages_give_every_voxel_what_covers_it(features: list[Tensor]) -> None:
    aligned = align(features, 2, "average", "interpolated")
    padded = align(features, 2, "average")
    same = [torch.equal(one, other) for one, other in zip(aligned, padded, strict=True)]
    assert same == [True, True, True, False]
    for z in range(2):
        for y in range(4):
            for x in range(4):
                token = aligned[3][:, (z * 4 + y) * 4 + x]
                assert torch.equal(token, features[3][:, :, z // 2, y // 2, x // 2])
    assert token_counts((4, 8, 8), (1, 2, 1, 2), 2, "interpolated") == [32, 32, 32, 32]


@pytest.mark.parametrize("deeper", ["zeros", "interpolated"])
@pytest.mark.parametrize("reference", [1, 2, 3, 4])
def test_the_deepest_stage_is_found_again_in_its_aligned_tokens(
    features: list[Tensor], reference: int, deeper: Deeper
) -> None:
    grids = [(4, 8, 8), (2, 4, 4), (2, 4, 4), (1, 2, 2)]
    tokens = align(features, reference, "max", deeper)[-1]
    found = deepest_tokens(tokens, grids, reference, deeper)
    assert torch.equal(found, features[-1].flatten(2).transpose(1, 2))


@pytest.mark.parametrize("reference", [1, 2, 3, 4])
def test_every_stage_gets_the_token_count_of_the_reference(
    features: list[Tensor], reference: int
) -> None:
    num_tokens = features[reference - 1][0, 0].numel()
    shapes = [tokens.shape for tokens in align(features, reference, "average")]
    assert shapes == [(2, num_tokens, f.shape[1]) for f in features]


def test_what_the_encoder_returns_keeps_its_channels(encoder_config: EncoderConfig) -> None:
    encoder = build_encoder(encoder_config).eval()
    aligned = align(encoder(torch.randn(1, 1, 8, 16, 16)), 4, "max")
    assert [tokens.shape for tokens in aligned] == [(1, 32, c) for c in encoder_config.channels]


@pytest.mark.parametrize(("reference", "count"), [(6, 384), (5, 3072)])
def test_the_paper_has_384_visual_tokens_at_the_deepest_stage_and_3072_above(
    reference: int, count: int
) -> None:
    assert num_visual_tokens(PAPER_GRID, PAPER_STRIDES, reference) == count


def test_token_counts_are_what_the_encoder_makes(encoder_config: EncoderConfig) -> None:
    features = build_encoder(encoder_config)(torch.zeros(1, 1, 8, 16, 16))
    grids = feature_grids((8, 16, 16), encoder_config.strides)
    assert grids == [tuple(feature.shape[2:]) for feature in features]
    assert token_counts((8, 16, 16), encoder_config.strides, 4) == [32, 32, 32, 32, 4, 4]


def test_a_grid_that_the_strides_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"preprocess\.grid.*multiple of 32"):
        feature_grids((192, 250, 256), PAPER_STRIDES)
