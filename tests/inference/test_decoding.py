"""Choosing a token: against numpy written out, and against transformers' own processors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from uvlm.inference.decoding import (
    Decoding,
    adjust,
    forbid_ngrams,
    nucleus,
    penalise_repetition,
    pick,
    repeated_tail,
)


def naive_nucleus(row: npt.NDArray[Any], top_p: float) -> npt.NDArray[Any]:
    """Take tokens from the likeliest down until they hold top_p."""
    kept, total = np.zeros_like(row), 0.0
    for token in np.argsort(-row, kind="stable"):
        if total >= top_p:
            break
        kept[token] = row[token]
        total += row[token]
    return kept


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), top_p=st.floats(0.05, 0.99), spread=st.floats(0.1, 4.0))
def test_the_nucleus_is_that_of_numpy(seed: int, top_p: float, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.softmax(spread * torch.randn(3, 30, generator=generator).double(), dim=-1)
    expected = np.stack([naive_nucleus(row, top_p) for row in rows.numpy()])
    np.testing.assert_allclose(nucleus(rows, top_p).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("spread", "top_p"), [(0.1, 0.9), (4.0, 0.9)])
def test_a_nucleus_of_a_large_vocabulary_is_found_whether_flat_or_peaked(
    spread: float, top_p: float
) -> None:
    rows = torch.softmax(spread * torch.randn(2, 5000).double(), dim=-1)
    kept = nucleus(rows, top_p)
    assert (int((kept[0] > 0).sum()) > 1024) == (spread < 1)
    for row, found in zip(rows.numpy(), kept.numpy(), strict=True):
        np.testing.assert_allclose(found, naive_nucleus(row, top_p), atol=1e-12)


def test_tokens_are_drawn_as_often_as_their_probability_says() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log() * 2.0
    drawn = pick(logits.expand(20_000, 3), 2.0, torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=3) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.2]), atol=0.02, rtol=0)


def test_only_the_nucleus_is_drawn_from() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log()
    drawn = pick(logits.expand(20_000, 3), 1.0, torch.Generator().manual_seed(0), top_p=0.7)
    shares = torch.bincount(drawn, minlength=3) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.625, 0.375, 0.0]), atol=0.02, rtol=0)


@pytest.fixture
def written() -> Tensor:
    return torch.randint(0, 5, (4, 17), generator=torch.Generator().manual_seed(0))


def test_the_repetition_penalty_is_that_of_transformers(written: Tensor) -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = torch.randn(4, 9)
    expected = RepetitionPenaltyLogitsProcessor(1.3)(written, logits.clone())
    torch.testing.assert_close(penalise_repetition(logits, written, 1.3), expected)


@pytest.mark.parametrize("size", [2, 3, 4, 18])
def test_forbidden_ngrams_are_those_of_transformers(written: Tensor, size: int) -> None:
    from transformers import NoRepeatNGramLogitsProcessor

    logits = torch.randn(4, 9)
    expected = NoRepeatNGramLogitsProcessor(size)(written, logits.clone())
    found = forbid_ngrams(logits, written, size)
    assert torch.equal(found, expected)
    assert bool(torch.isinf(found).any()) == (size < 4 or bool(torch.isinf(expected).any()))


def test_defaults_leave_logits_as_they_are(written: Tensor) -> None:
    logits = torch.randn(4, 9)
    assert adjust(logits, written, Decoding(30), eos=4) is logits


def test_the_end_is_impossible_before_the_minimum_only(written: Tensor) -> None:
    logits = torch.randn(4, 9)
    early = adjust(logits, written, Decoding(30, min_tokens=18), eos=4)
    assert torch.isinf(early[:, 4]).all()
    early[:, 4] = logits[:, 4]
    assert torch.equal(early, logits)
    assert adjust(logits, written, Decoding(30, min_tokens=17), eos=4) is logits


@pytest.mark.parametrize(
    ("ids", "times", "excess"),
    [
        ([1, 2, 2, 2], 3, 2),
        ([1, 2, 2, 2], 4, 0),
        ([2, 2, 2, 1], 3, 0),
        ([7, 1, 2, 3, 1, 2, 3], 2, 3),
        ([1, 2, 3, 1, 2, 4], 2, 0),
        ([5, 1, 1, 1, 1], 2, 1),
        ([], 2, 0),
    ],
)
def test_a_repeated_tail_is_counted_by_hand(ids: list[int], times: int, excess: int) -> None:
    assert repeated_tail(ids, times) == excess


@given(st.lists(st.integers(0, 2), max_size=24), st.integers(2, 4))
def test_a_repeated_tail_is_found_exactly_when_there_is_one(ids: list[int], times: int) -> None:
    excess = repeated_tail(ids, times)
    pieces = [
        size
        for size in range(1, len(ids) + 1)
        if size * times <= len(ids) and ids[-size * times :] == ids[-size:] * times
    ]
    assert excess == (min(pieces) * (times - 1) if pieces else 0)
