"""Attention in two maskless parts against the masked softmax of the whole map."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from uvlm.model.attention import hybrid_attention, hybrid_mask

BATCH, HEADS, LENGTH, HEAD_DIM = 2, 3, 19, 8


def qkv(seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(3, BATCH, HEADS, LENGTH, HEAD_DIM, generator=generator).to(dtype)
    queries, keys, values = (x.clone().requires_grad_() for x in drawn)
    return queries, keys, values


def by_scores(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    scores = queries @ keys.transpose(-2, -1) / HEAD_DIM**0.5
    mixed: Tensor = scores.masked_fill(~mask, float("-inf")).softmax(dim=-1) @ values
    return mixed


@pytest.mark.parametrize("num_visual", [1, 7, 18])
def test_outputs_and_gradients_are_those_of_the_mask(num_visual: int) -> None:
    ours, exact = qkv(0), qkv(0, torch.float64)
    weight = torch.randn(BATCH, HEADS, LENGTH, HEAD_DIM)
    found = hybrid_attention(*ours, num_visual)
    expected = by_scores(*exact, hybrid_mask(num_visual, LENGTH - num_visual))
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    for one, other in zip(ours, exact, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad.double(), other.grad, atol=1e-5, rtol=1e-4)


def test_without_a_visual_block_every_row_looks_everywhere() -> None:
    queries, keys, values = qkv(1)
    found = hybrid_attention(queries[:, :, -1:], keys, values, None)
    everything = torch.ones(LENGTH, LENGTH, dtype=torch.bool)
    expected = by_scores(queries, keys, values, everything)[:, :, -1:]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_no_map_of_length_times_length_is_kept_for_the_way_back() -> None:
    kept: list[tuple[int, ...]] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    inputs = qkv(2)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hybrid_attention(*inputs, 7)
    assert kept
    largest = BATCH * HEADS * LENGTH * HEAD_DIM
    assert all(torch.Size(shape).numel() <= largest for shape in kept)
    assert not any(shape[-2:] in {(LENGTH, LENGTH), (7, 7), (12, LENGTH)} for shape in kept)
