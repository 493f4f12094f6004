"""Random streams belong to their keys, not to the order of drawing."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uvlm.seeding import generator, seed_everything, torch_generator, unit_interval

KEYS = st.lists(st.one_of(st.text(max_size=5), st.integers(0, 99)), max_size=3)


def test_the_stream_is_pcg64_seeded_by_the_hash_of_the_keys() -> None:
    digest = hashlib.sha256(b'[7,"patient","train_1"]').digest()
    expected = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))
    assert generator(7, "patient", "train_1").random(5).tolist() == expected.random(5).tolist()


def test_the_same_keys_give_the_same_numbers_whatever_was_drawn_before() -> None:
    first = generator(1, "a").normal(size=4)
    generator(1, "b").normal(size=100)
    np.testing.assert_array_equal(first, generator(1, "a").normal(size=4))


@settings(deadline=None)
@given(KEYS, KEYS)
def test_different_keys_give_different_streams(
    one: list[str | int], other: list[str | int]
) -> None:
    same = [(type(key), key) for key in one] == [(type(key), key) for key in other]
    assert (generator(0, *one).random() == generator(0, *other).random()) == same


@pytest.mark.parametrize(("one", "other"), [(("ab",), ("a", "b")), ((1,), ("1",))])
def test_joining_keys_does_not_confuse_them(
    one: tuple[str | int, ...], other: tuple[str | int, ...]
) -> None:
    assert generator(0, *one).random() != generator(0, *other).random()


def test_torch_streams_follow_the_keys_too() -> None:
    one, again = torch_generator(3, "step", 5), torch_generator(3, "step", 5)
    assert torch.equal(torch.rand(4, generator=one), torch.rand(4, generator=again))
    assert torch_generator(3, "step", 6).initial_seed() != one.initial_seed()


def test_unit_interval_is_even_over_patients() -> None:
    draws = np.array([unit_interval(0, "val", f"train_{i}") for i in range(4000)])
    assert draws.min() >= 0
    assert draws.max() < 1
    counts, _ = np.histogram(draws, bins=10, range=(0, 1))
    assert np.abs(counts - 400).max() < 100  # five standard deviations


def test_seeding_everything_repeats_the_global_streams() -> None:
    seed_everything(11)
    first = (torch.rand(3), np.random.random(3))
    seed_everything(11)
    assert torch.equal(first[0], torch.rand(3))
    np.testing.assert_array_equal(first[1], np.random.random(3))
