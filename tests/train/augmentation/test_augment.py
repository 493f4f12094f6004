from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from uvlm.config import AugmentConfig, Chance, IntensityConfig, SpatialConfig
from uvlm.seeding import generator
from uvlm.train.augmentation.augment import augment_intensity, augment_volume, draw_roll, roll

NEVER = Chance(probability=0.0, between=(1.0, 1.0))
OFF = AugmentConfig(
    noise_std=0.0,
    shift_std=0.0,
    scale_std=0.0,
    gamma_std=0.0,
    roll_voxels=(0, 0, 0),
    spatial=SpatialConfig(rotation_deg=NEVER, scaling=NEVER),
    intensity=IntensityConfig(**dict.fromkeys(IntensityConfig.model_fields, NEVER)),
)


def varied(
    x: npt.NDArray[np.float32], config: AugmentConfig, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    return augment_intensity(torch.from_numpy(x), config, rng).numpy()


def test_zeros_leave_voxels_as_they_are() -> None:
    x = generator(0).normal(size=(3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(varied(x, OFF, generator(1)), x)
    assert draw_roll(OFF, generator(1)) == (0, 0, 0)


def test_every_width_is_what_the_parameter_says() -> None:
    config = OFF.model_copy(update={"noise_std": 0.1, "shift_std": 0.3, "scale_std": 0.2})
    x = np.concatenate([np.zeros((4, 40, 40)), np.ones((4, 40, 40))]).astype(np.float32)
    halves = [np.split(varied(x, config, generator(n)), 2) for n in range(400)]
    shifts = np.array([low.mean() for low, _ in halves])
    scales = np.array([high.mean() - low.mean() for low, high in halves])
    assert shifts.std() == pytest.approx(0.3, rel=0.15)
    assert scales.mean() == pytest.approx(1.0, abs=0.05)
    assert scales.std() == pytest.approx(0.2, rel=0.15)
    assert halves[0][0].std() == pytest.approx(0.1, rel=0.05)


def test_gamma_keeps_the_ends_and_the_order() -> None:
    config = OFF.model_copy(update={"gamma_std": 0.5})
    x = np.linspace(-1, 1, 50, dtype=np.float32).reshape(2, 5, 5)
    drawn = [varied(x, config, generator(n)).ravel() for n in range(20)]
    for bent in drawn:
        assert bent[[0, -1]].tolist() == pytest.approx([-1, 1])
        assert (np.diff(bent) > 0).all()
    assert max(np.abs(bent - x.ravel()).max() for bent in drawn) > 0.1


def test_roll_moves_content_and_repeats_the_border() -> None:
    x = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    np.testing.assert_array_equal(
        roll(torch.from_numpy(x), (0, 1, -2))[0], [[2, 3, 3, 3], [2, 3, 3, 3], [6, 7, 7, 7]]
    )


def test_drawn_rolls_stay_within_the_limit_and_use_both_directions() -> None:
    config = OFF.model_copy(update={"roll_voxels": (1, 2, 0)})
    rng = generator(0)
    drawn = {draw_roll(config, rng) for _ in range(300)}
    assert drawn == {(z, y, 0) for z in (-1, 0, 1) for y in (-2, -1, 0, 1, 2)}


def test_probabilities_of_zero_draw_nothing() -> None:
    rng, same = generator(1), generator(1)
    augment_volume(np.zeros((3, 4, 5), np.float32), OFF, rng)
    same.standard_normal(3)  # the three of the intensities
    for _ in range(3):
        same.integers(0, 1)
    assert rng.random() == same.random()


def test_a_whole_volume_is_turned_about_its_centre() -> None:
    turned = OFF.model_copy(
        update={
            "spatial": SpatialConfig(
                rotation_deg=NEVER, scaling=Chance(probability=1.0, between=(2.0, 2.0))
            )
        }
    )
    x = np.zeros((16, 16, 16), np.float32)
    x[4:12, 4:12, 4:12] = 1.0
    small = augment_volume(x, turned, generator(0))
    assert small.shape == x.shape
    assert small.sum() == pytest.approx(4**3, rel=0.1)
    np.testing.assert_allclose(small, small[::-1, ::-1, ::-1], atol=1e-5)
