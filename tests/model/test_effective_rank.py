"""Effective rank, against NumPy's singular values and matrices whose rank is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from uvlm.arrays import Floats
from uvlm.model.effective_rank import effective_rank


def by_numpy(x: Floats) -> float:
    values = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)
    p = values[values > 0] / values.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


@pytest.mark.parametrize("shape", [(200, 12), (7, 30), (2, 2)])
def test_it_is_what_numpy_says(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=shape) * np.linspace(0.1, 3, shape[1]) + 5
    assert effective_rank(torch.from_numpy(x)) == pytest.approx(by_numpy(x), rel=1e-5)


def test_equal_directions_count_whole_and_an_offset_counts_nothing() -> None:
    eye = torch.eye(6)
    for count in (1, 3, 6):
        x = torch.cat([eye[:count], -eye[:count]]) + 100.0
        assert effective_rank(x) == pytest.approx(count, rel=1e-4)


def test_two_directions_of_unequal_strength_lie_between_one_and_two() -> None:
    x = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))  # singular values 3 sqrt 2 and sqrt 2
    assert effective_rank(x) == pytest.approx(np.exp(entropy), rel=1e-6)


def test_tokens_that_are_all_the_same_have_none() -> None:
    assert effective_rank(torch.full((5, 4), 2.5)) == 0.0
    assert effective_rank(torch.ones(1, 3)) == 0.0
