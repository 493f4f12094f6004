"""The test of maps: phantoms are made again exactly, and changed only where it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.map_trust import moved_mask
from benchmarks.twins import Twin, draw_twin
from uvlm.config import PhantomConfig
from uvlm.data.ct.io import read_volume
from uvlm.data.sets.ct_rate.layout import parse_id
from uvlm.data.sets.phantom.disease import EasyDisease
from uvlm.data.sets.phantom.patient import write_patient

CONFIG = PhantomConfig(
    train_patients=4, test_patients=2, shape=(32, 48, 48), prevalence=0.25,
    second_scan_fraction=0.0, second_reconstruction_fraction=0.5, noise_hu=15.0, defects=False,
)  # fmt: skip


def twin(number: int) -> Twin:
    made = draw_twin(CONFIG, 0, f"valid_{number}_a")
    assert made is not None
    return made


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_twin_is_the_phantom_that_the_data_set_has(number: int, tmp_path: Path) -> None:
    write_patient(tmp_path, f"valid_{number}", None, EasyDisease(CONFIG), 0)
    name = parse_id(f"valid_{number}_a_1")
    assert name is not None
    stored, made = read_volume(tmp_path / name.volume), twin(number)
    again = made.volume(made.hu)
    np.testing.assert_array_equal(stored.array, again.array)
    np.testing.assert_allclose(stored.affine, again.affine, atol=1e-4)


def test_every_changed_voxel_belongs_to_a_finding_and_the_rest_is_healthy() -> None:
    for number in (1, 2, 3, 4):
        made = twin(number)
        np.testing.assert_array_equal((made.scan.hu != made.healthy) & (made.owner == 0), False)
        for index, lesion in enumerate(made.scan.lesions, start=1):
            assert (made.owner[lesion.instances > 0] == index).all()


def test_removing_everything_leaves_the_healthy_body_with_the_same_noise() -> None:
    made = twin(2)
    removed = made.removed(made.owner > 0)
    hu = made.frame.axes.forward(removed.array).astype(float)
    blurred = made.healthy
    for axis in range(3):
        blurred = ndimage.correlate1d(blurred, [0.12, 0.76, 0.12], axis, mode="nearest")
    noise = hu - blurred
    inside = (hu > -1024) & (hu < 3071)
    assert abs(noise[inside].mean()) < 1.0
    assert 13 < noise[inside].std() < 17


def test_what_is_far_from_a_removed_finding_does_not_change() -> None:
    made = twin(3)
    assert made.scan.lesions
    mask = made.owner == 1
    hu = made.frame.axes.forward(made.removed(mask).array)
    far = ~ndimage.binary_dilation(mask, np.ones((3, 3, 3)), 1)
    np.testing.assert_array_equal(hu[far], made.hu[far])
    assert (hu[mask] != made.hu[mask]).any()


def test_a_moved_mask_keeps_its_shape_and_lies_where_it_may() -> None:
    draws = np.random.default_rng(0)
    mask = np.zeros((12, 12, 12), bool)
    mask[2:4, 3:6, 5] = True
    free = np.zeros_like(mask)
    free[5:, 2:, :] = True
    moved = moved_mask(mask, free, draws)
    assert moved is not None
    assert not (moved & ~free).any()
    at, other = np.argwhere(mask), np.argwhere(moved)
    assert (other - other.min(0)).tolist() == (at - at.min(0)).tolist()
    assert moved_mask(mask, np.zeros_like(mask), draws) is None
