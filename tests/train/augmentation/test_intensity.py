from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from uvlm.config import Chance, IntensityConfig
from uvlm.seeding import generator
from uvlm.train.augmentation.intensity import (
    add_noise,
    bend,
    bend_inverted,
    blur,
    brighten,
    change_contrast,
    lower_resolution,
    vary,
)

BOUNDS = {
    "noise": (0.0, 0.1),
    "blur": (0.5, 1.0),
    "brightness": (0.75, 1.25),
    "contrast": (0.75, 1.25),
    "low_resolution": (0.5, 1.0),
    "inverted_gamma": (0.7, 1.5),
    "gamma": (0.7, 1.5),
}


def config(probability: float) -> IntensityConfig:
    return IntensityConfig(
        **{name: Chance(probability=probability, between=b) for name, b in BOUNDS.items()}
    )


def volume(shape: tuple[int, int, int] = (9, 11, 13)) -> torch.Tensor:
    return torch.from_numpy(generator(0).normal(size=shape).astype(np.float32))


def test_at_probability_zero_nothing_changes_and_at_one_everything() -> None:
    x = volume()
    kept = x.clone()
    assert vary(x, config(0.0), generator(1)) is x
    first, again = (vary(x, config(1.0), generator(1)) for _ in range(2))
    assert torch.equal(x, kept)
    assert torch.equal(first, again)
    assert first.shape == x.shape
    assert not torch.allclose(first, x, atol=0.05)


def test_each_change_comes_as_often_as_its_probability_says() -> None:
    x = volume((3, 3, 3))
    for name in BOUNDS:
        only = config(0.0).model_copy(update={name: Chance(probability=0.25, between=BOUNDS[name])})
        changed = sum(vary(x, only, generator(n, name)) is not x for n in range(400))
        assert changed == pytest.approx(100, abs=35), name


def test_noise_has_the_deviation_drawn() -> None:
    x = torch.zeros(20, 40, 40)
    deviations = [float(add_noise(x, (0.0, 0.1), generator(n)).std()) for n in range(40)]
    assert max(deviations) < 0.105
    assert np.mean(deviations) == pytest.approx(0.05, abs=0.015)


def test_blur_is_scipys_away_from_the_border_and_keeps_a_constant() -> None:
    x = volume((20, 22, 24))
    sigmas = generator(5).uniform(0.5, 1.0, 3)
    expected = x.numpy().astype(np.float64)
    for axis, sigma in enumerate(sigmas):
        expected = gaussian_filter1d(expected, sigma, axis=axis, truncate=8)
    found = blur(x, (0.5, 1.0), generator(5)).numpy()
    inner = (slice(6, -6),) * 3
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-5)
    np.testing.assert_allclose(blur(torch.ones(5, 6, 7), (0.5, 1.0), generator(0)), 1, atol=1e-6)


def test_brightness_multiplies_and_contrast_stretches_within_the_range() -> None:
    x = volume()
    factor = float((brighten(x, (0.5, 0.5), generator(0)) / x).mean())
    assert factor == pytest.approx(0.5)
    wider = change_contrast(x, (1.25, 1.25), generator(0))
    inside = (wider > x.min()) & (wider < x.max())
    expected = (x - x.mean()) * 1.25 + x.mean()
    torch.testing.assert_close(wider[inside], expected[inside], atol=1e-5, rtol=1e-5)
    assert wider.min() >= x.min()
    assert wider.max() <= x.max()


def test_factors_fall_below_and_above_one_equally_often() -> None:
    one = torch.ones(1, 1, 1)
    factors = np.array([float(brighten(one, (0.75, 1.25), generator(n))) for n in range(400)])
    assert (factors < 1).mean() == pytest.approx(0.5, abs=0.08)
    assert factors.min() >= 0.75
    assert factors.max() <= 1.25


def test_low_resolution_keeps_size_and_level_but_not_the_detail() -> None:
    x = volume((16, 16, 16))
    low = lower_resolution(x, (0.5, 0.5), generator(0))
    assert low.shape == x.shape
    assert low.std() < 0.9 * x.std()
    ramp = torch.arange(16.0).expand(16, 16, 16).contiguous()
    assert (lower_resolution(ramp, (0.5, 0.5), generator(0)) - ramp).abs().max() <= 1.0


def test_gamma_keeps_mean_deviation_and_order() -> None:
    x = volume()
    order = x.ravel().argsort()
    for change in (bend, bend_inverted):
        bent = change(x, (1.5, 1.5), generator(0))
        assert float(bent.mean()) == pytest.approx(float(x.mean()), abs=1e-5)
        assert float(bent.std()) == pytest.approx(float(x.std()), rel=1e-5)
        assert (bent.ravel()[order].diff() >= 0).all()
        assert (bent - x).abs().max() > 0.1
    constant = torch.full((2, 2, 2), 3.0)
    torch.testing.assert_close(bend(constant, (0.7, 0.7), generator(0)), constant)


def test_gamma_bends_from_the_low_end_and_inverted_gamma_from_the_high_end() -> None:
    x = torch.linspace(0, 1, 1000).reshape(10, 10, 10)
    usual, inverted = (f(x, (1.5, 1.5), generator(0)).ravel() for f in (bend, bend_inverted))
    assert usual[1] - usual[0] < usual[-1] - usual[-2]
    assert inverted[1] - inverted[0] > inverted[-1] - inverted[-2]
