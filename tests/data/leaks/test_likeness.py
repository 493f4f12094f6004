"""Fingerprints against a naive loop; copies of an image are near, other images far."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from scipy.ndimage import zoom

from uvlm.data.leaks.likeness import decode, likeness_of, nearest

NEAR = 0.1  # audit.near_duplicate of every profile
HU = npt.NDArray[np.int16]


@pytest.fixture
def volume() -> HU:
    """Smooth blobs, different along every axis, with noise."""
    rng = np.random.default_rng(0)
    coarse = rng.choice([-1000, -850, 0, 50, 300], (5, 6, 7)).astype(float)
    smooth = zoom(coarse, (8, 8, 8), order=1, mode="nearest")
    noisy: HU = np.rint(smooth + rng.normal(0, 20, smooth.shape)).astype(np.int16)
    return noisy


def distance(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    return float(nearest(decode([likeness_of(one)]), decode([likeness_of(other)]))[0][0])


def test_all_48_axis_orders_and_flips_are_the_same_image(volume: HU) -> None:
    for axes in permutations(range(3)):
        for flips in product((1, -1), repeat=3):
            turned = volume.transpose(axes)[tuple(slice(None, None, flip) for flip in flips)]
            assert distance(volume, turned) < 0.02


def test_rescaled_values_noise_and_resampling_hardly_move_a_likeness(volume: HU) -> None:
    noise = np.random.default_rng(1).normal(0, 60, volume.shape)
    assert distance(volume, (volume * 0.5 - 100).astype(np.int16)) < 0.02
    assert distance(volume, np.rint(volume + noise).astype(np.int16)) < 0.02
    finer = zoom(volume.astype(float), 1.7, order=1, mode="nearest", grid_mode=True)
    assert distance(volume, np.rint(finer).astype(np.int16)) < 0.05


def test_the_nearest_is_that_of_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    ones, others = (rng.integers(-99, 100, (n, 8, 8, 8)).astype(np.int8) for n in (3, 4))
    distances, index = nearest(ones, others)
    for number, one in enumerate(ones):
        naive = []
        for other in others:
            turned = [
                one.transpose(axes)[::z, ::y, ::x]
                for axes in permutations(range(3))
                for z, y, x in product((1, -1), repeat=3)
            ]
            gaps = [np.square(t.astype(float) - other).mean() for t in turned]
            naive.append(np.sqrt(min(gaps)) / 40)
        assert index[number] == int(np.argmin(naive))
        assert distances[number] == pytest.approx(min(naive), abs=1e-12)


def test_an_empty_image_has_a_likeness() -> None:
    assert not decode([likeness_of(np.full((9, 9, 9), -1000, np.int16))]).any()


@pytest.mark.slow
def test_real_cts_are_far_apart_and_their_copies_near(real_data: Path) -> None:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(real_data / "ct/dicom_series")))
    images = [
        sitk.ReadImage(str(real_data / "ct/chest_abdomen_3mm.nii.gz")),
        sitk.ReadImage(str(real_data / "ct/thorax_ct-64.nrrd")),
        reader.Execute(),
    ]
    arrays = [sitk.GetArrayFromImage(image).astype(np.int16) for image in images]
    for number, one in enumerate(arrays):
        for other in arrays[:number]:
            assert distance(one, other) > 5 * NEAR
        shrunk = zoom(one.astype(float), (1, 0.75, 0.75), order=3, mode="nearest")
        assert distance(one, np.rint(shrunk[:, ::-1]).astype(np.int16)) < NEAR
