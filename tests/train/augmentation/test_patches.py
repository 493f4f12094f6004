from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from uvlm.data.label_scheme import IGNORE_ID
from uvlm.seeding import generator
from uvlm.train.augmentation.patches import choose_class, patch_around, random_patch, random_voxel

SHAPE = (32, 48, 48)
PATCH = (24, 32, 32)


def test_forced_patches_hold_a_six_voxel_lesion_wherever_it_lies() -> None:
    for trial in range(300):
        rng = generator(trial, "patch")
        corner = [int(rng.integers(0, size - 5)) for size in (96, 128, 128)]
        label_map = np.zeros((96, 128, 128), dtype=np.uint8)
        label_map[tuple(slice(c, c + 6) for c in corner)] = 9
        voxel = random_voxel(label_map, 9, rng)
        assert (label_map[patch_around(voxel, label_map.shape, (24, 32, 32), rng)] == 9).any()


@settings(deadline=None)
@given(st.tuples(*(st.integers(0, size - 1) for size in SHAPE)), st.integers(0, 10_000))
def test_a_patch_around_a_voxel_holds_it_and_stays_inside(
    voxel: tuple[int, int, int], seed: int
) -> None:
    slices = patch_around(voxel, SHAPE, PATCH, generator(seed))
    for part, position, size, edge in zip(slices, voxel, SHAPE, PATCH, strict=True):
        assert 0 <= part.start <= position < part.stop <= size
        assert part.stop - part.start == edge


def test_random_patches_reach_both_ends_of_every_axis() -> None:
    rng = generator(0)
    patches = [random_patch(SHAPE, PATCH, rng) for _ in range(500)]
    for axis, (size, edge) in enumerate(zip(SHAPE, PATCH, strict=True)):
        assert {part[axis].start for part in patches} == set(range(size - edge + 1))


def test_lesions_come_half_of_the_time_and_rare_anatomy_more_often() -> None:
    rarity = np.ones(50)
    rarity[2] = 9.0
    rng = generator(1)
    counts = {0: 900, 1: 100, 2: 3, 5: 0, 40: 2, 44: 500}
    drawn = Counter(choose_class(counts, rarity, {40, 44, 45}, rng) for _ in range(4000))
    assert set(drawn) == {1, 2, 40, 44}
    assert abs(drawn[40] + drawn[44] - 2000) < 160  # 5 standard deviations
    assert abs(drawn[40] - drawn[44]) < 230
    assert abs(drawn[2] / drawn[1] - 9) < 3


def test_a_case_of_background_has_no_class_to_choose() -> None:
    assert choose_class({0: 1000}, np.ones(3), {2}, generator(0)) is None


def test_a_case_that_is_ignored_but_for_background_has_no_class_either() -> None:
    assert choose_class({0: 10, IGNORE_ID: 1000}, np.ones(3), {2}, generator(0)) is None
