"""Turned and scaled patches against scipy's affine_transform of the whole volume."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError
from scipy.ndimage import affine_transform, gaussian_filter

from uvlm.config import Chance, Grid, SpatialConfig
from uvlm.seeding import generator
from uvlm.train.augmentation.patches import Slices, patch_around, random_patch
from uvlm.train.augmentation.spatial import Warp, draw_warp, middle

SHAPE: Grid = (26, 33, 30)
PATCH: Grid = (12, 16, 14)
ALWAYS = SpatialConfig(
    rotation_deg=Chance(probability=1.0, between=(-30, 30)),
    scaling=Chance(probability=1.0, between=(0.7, 1.4)),
)
NEVER = SpatialConfig(
    rotation_deg=Chance(probability=0.0, between=(-30, 30)),
    scaling=Chance(probability=0.0, between=(0.7, 1.4)),
)


def drawn(seed: int, config: SpatialConfig = ALWAYS) -> Warp:
    rng = generator(seed)
    warp = draw_warp(config, random_patch(SHAPE, PATCH, rng), SHAPE, rng)
    assert warp is not None
    return warp


def by_scipy(
    volume: npt.NDArray[np.float32], warp: Warp, order: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """The patch from the whole volume, and which of its voxels lie within the volume."""
    half = (np.array(PATCH) - 1) / 2
    offset = warp.centre - warp.matrix @ half
    patch = affine_transform(
        volume, warp.matrix, offset, output_shape=PATCH, order=order, mode="nearest"
    )
    where = np.einsum("ij,jzyx->izyx", warp.matrix, np.indices(PATCH)) + offset[:, None, None, None]
    last = (np.array(SHAPE) - 1)[:, None, None, None]
    return patch, ((where >= 0) & (where <= last)).all(axis=0)


@pytest.mark.parametrize("seed", range(8))
def test_a_patch_is_what_scipy_samples_from_the_whole_volume(seed: int) -> None:
    warp = drawn(seed)
    volume = generator(seed, "volume").normal(size=SHAPE).astype(np.float32)
    expected, inside = by_scipy(volume, warp, order=1)
    assert inside.mean() > 0.4
    found = warp.image(volume[warp.box])
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-3)
    np.testing.assert_allclose(found, expected, atol=1e-3)  # the border is repeated outside


@pytest.mark.parametrize("seed", range(8))
def test_labels_are_the_nearest_voxels_and_no_others(seed: int) -> None:
    warp = drawn(seed)
    labels = (40 * gaussian_filter(generator(seed).random(SHAPE), 2)).round().astype(np.uint8)
    expected, _ = by_scipy(labels.astype(np.float32), warp, order=0)
    found = warp.labels(labels[warp.box])
    assert found.dtype == np.uint8
    assert (found == expected).mean() > 0.995  # a tie may fall either way
    assert set(np.unique(found)) <= set(np.unique(labels))


def test_image_and_labels_move_together() -> None:
    volume = np.zeros(SHAPE, np.float32)
    volume[10:17, 12:20, 11:18] = 1.0
    for seed in range(20):
        warp = drawn(seed)
        box = warp.box
        image, labels = warp.image(volume[box]), warp.labels(volume[box].astype(np.uint8))
        np.testing.assert_array_equal(labels[image > 0.99], 1)
        np.testing.assert_array_equal(labels[image < 0.01], 0)


def test_nothing_is_ever_mirrored_and_the_body_stays_upright() -> None:
    matrices = np.array([drawn(seed).matrix for seed in range(200)])
    scales = np.cbrt(np.linalg.det(matrices))
    assert scales.min() > 0.69
    assert scales.max() < 1.41
    assert scales.std() > 0.1
    for matrix, scale in zip(matrices, scales, strict=True):
        np.testing.assert_allclose(matrix @ matrix.T, scale**2 * np.eye(3), atol=1e-9)
        assert (np.diag(matrix) > 0).all()


def test_a_voxel_asked_for_keeps_its_place_in_the_patch() -> None:
    for seed in range(40):
        rng = generator(seed, "place")
        voxel = tuple(int(rng.integers(size)) for size in SHAPE)
        patch = patch_around((voxel[0], voxel[1], voxel[2]), SHAPE, PATCH, rng)
        warp = draw_warp(ALWAYS, patch, SHAPE, rng, np.array(voxel, dtype=np.float64))
        assert warp is not None
        labels = np.zeros(SHAPE, np.uint8)
        labels[voxel] = 7
        inside = tuple(at - place.start for at, place in zip(voxel, patch, strict=True))
        assert warp.labels(labels[warp.box])[inside] == 7


def test_a_patch_turns_about_its_centre_unless_told() -> None:
    patch = random_patch(SHAPE, PATCH, generator(0))
    warp = draw_warp(ALWAYS, patch, SHAPE, generator(1))
    assert warp is not None
    np.testing.assert_allclose(warp.centre, middle(patch))


def test_without_luck_nothing_is_drawn() -> None:
    rng = generator(0)
    patch: Slices = random_patch(SHAPE, PATCH, rng)
    assert draw_warp(NEVER, patch, SHAPE, rng) is None
    identity = Warp(np.eye(3), middle(patch), patch, patch)
    volume = generator(1).normal(size=SHAPE).astype(np.float32)
    np.testing.assert_allclose(identity.image(volume[patch]), volume[patch], atol=1e-4)


def test_each_change_comes_as_often_as_its_probability_says() -> None:
    chances = {"rotation_deg": (0.3, (-30.0, 30.0)), "scaling": (0.4, (0.7, 1.4))}
    config = SpatialConfig(**{n: Chance(probability=p, between=b) for n, (p, b) in chances.items()})
    patch = random_patch(SHAPE, PATCH, generator(0))
    warps = [draw_warp(config, patch, SHAPE, generator(seed, "often")) for seed in range(1000)]
    matrices = [w.matrix for w in warps if w is not None]
    assert len(matrices) == pytest.approx(1000 * (1 - 0.7 * 0.6), abs=60)
    turned = sum(bool(m[0, 1]) for m in matrices)
    assert turned == pytest.approx(300, abs=60)


def test_a_box_is_no_larger_than_needed_and_within_the_volume() -> None:
    patch: Slices = (slice(7, 19), slice(8, 24), slice(8, 22))
    small = draw_warp(ALWAYS, patch, SHAPE, generator(3))
    assert small is not None
    for place, size in zip(small.box, SHAPE, strict=True):
        assert 0 <= place.start < place.stop <= size
    shrunk = Warp(0.5 * np.eye(3), middle(patch), patch, patch)
    assert shrunk.image(np.ones(PATCH, np.float32)).shape == PATCH


def test_a_scaling_that_would_mirror_is_refused() -> None:
    with pytest.raises(ValidationError, match="mirror"):
        SpatialConfig(
            rotation_deg=ALWAYS.rotation_deg, scaling=Chance(probability=1.0, between=(-1, 1))
        )
    with pytest.raises(ValidationError, match="is above"):
        Chance(probability=1.0, between=(2, 1))
