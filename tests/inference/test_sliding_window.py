"""Sliding windows against one forward pass and against a sum over the whole volume."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from uvlm.inference.sliding_window import (
    gaussian_weight,
    predict_labels,
    sliding_window_labels,
    window_starts,
)


class Spy(nn.Module):
    """A network that sees its window only (normalised by it), and remembers the shapes it got."""

    def __init__(self, num_classes: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(1, num_classes, 3, padding=1)
        self.norm = nn.InstanceNorm3d(num_classes)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape))
        out: Tensor = self.norm(self.conv(x))
        return out


@torch.no_grad()
def averaged_labels(
    network: Spy, x: Tensor, window: tuple[int, int, int], starts: list[list[int]]
) -> Tensor:
    """Sum logits and weights of every window over the whole volume, then divide."""
    sums = torch.zeros(5, *x.shape[1:], dtype=torch.float64)
    weights = torch.zeros(x.shape[1:], dtype=torch.float64)
    weight = gaussian_weight(window).double()
    for corner in itertools.product(*starts):
        place = tuple(slice(c, c + edge) for c, edge in zip(corner, window, strict=True))
        sums[(slice(None), *place)] += network(x[(slice(None), *place)][None])[0] * weight
        weights[place] += weight
    assert bool((weights > 0).all())
    return (sums / weights).argmax(dim=0)


@pytest.mark.parametrize(
    ("shape", "window", "starts"),
    [
        ((8, 8, 8), (4, 4, 4), [[0, 2, 4], [0, 2, 4], [0, 2, 4]]),
        ((12, 4, 6), (4, 4, 4), [[0, 2, 4, 6, 8], [0], [0, 2]]),
        ((9, 7, 8), (4, 5, 8), [[0, 2, 3, 5], [0, 2], [0]]),
    ],
)
@torch.no_grad()
def test_windows_give_the_labels_of_logits_averaged_over_the_whole_volume(
    shape: tuple[int, int, int], window: tuple[int, int, int], starts: list[list[int]]
) -> None:
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    found = sliding_window_labels(Spy(), x, window)
    assert found.dtype == torch.uint8
    assert torch.equal(found.long(), averaged_labels(Spy(), x, window, starts))
    assert len(found.unique()) > 1


@torch.no_grad()
def test_a_window_over_the_whole_volume_is_one_forward_pass() -> None:
    x = torch.randn(1, 6, 7, 8)
    whole = Spy()(x[None])[0].argmax(dim=0)
    assert torch.equal(sliding_window_labels(Spy(), x, (6, 7, 8)).long(), whole)
    assert torch.equal(sliding_window_labels(Spy(), x, (9, 9, 9)).long(), whole)
    assert torch.equal(predict_labels(Spy(), x[None], (6, 7, 8))[0].long(), whole)


@torch.no_grad()
def test_volumes_pass_in_windows_of_the_patch_and_whole_only_where_it_covers_them() -> None:
    covered, larger = Spy(), Spy()
    predict_labels(covered, torch.randn(3, 1, 4, 4, 4), (4, 5, 4))
    assert covered.shapes == [(3, 1, 4, 4, 4)]
    labels = predict_labels(larger, torch.randn(2, 1, 8, 4, 6), (4, 4, 4))
    assert labels.shape == (2, 8, 4, 6)
    assert {shape[2:] for shape in larger.shapes} == {(4, 4, 4)}
    assert sum(shape[0] for shape in larger.shapes) == 2 * 3 * 1 * 2


@given(
    size=st.integers(1, 300), edge=st.integers(1, 100), overlap=st.sampled_from([0.0, 0.25, 0.5])
)
@settings(max_examples=200, deadline=None)
def test_windows_cover_the_axis_and_overlap_by_the_share_asked_for(
    size: int, edge: int, overlap: float
) -> None:
    starts = window_starts(size, edge, overlap)
    edge = min(edge, size)
    assert starts[0] == 0
    assert starts[-1] == size - edge
    for left, right in itertools.pairwise(starts):
        assert 0 < right - left <= max(1, edge * (1 - overlap)) + 1


def test_weights_are_largest_in_the_middle_and_nowhere_zero() -> None:
    weight = gaussian_weight((5, 7, 4))
    assert weight.shape == (5, 7, 4)
    assert weight.argmax() == weight[2, 3].argmax() + 2 * 7 * 4 + 3 * 4
    assert float(weight.min()) > 0
    torch.testing.assert_close(weight, weight.flip(0, 1, 2))
