"""Resampling against torch and naive loops, geometry there and back, and the stage over cases."""

from __future__ import annotations

import json
import math
from itertools import permutations, product

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uvlm.config import PreprocessConfig
from uvlm.data.contract import contract, contract_sha256, normalise, volume_statistics
from uvlm.data.ct.grid import Geometry, preprocess_volume
from uvlm.data.ct.resample import Axis, resample_image, resample_labels
from uvlm.data.ct.volume import AxisOrder, Volume
from uvlm.store import array_sha256

CONFIG = PreprocessConfig(
    orientation="LPS",
    clip_hu=(-1024, 3071),
    grid=(6, 8, 10),
    resize="stretch",
    normalise="window",
    window_hu=(-1000, 1000),
)
HU = npt.NDArray[np.int16]
RANGE = (-1024, 3071)


def noise(shape: tuple[int, int, int], seed: int = 0) -> HU:
    return np.random.default_rng(seed).integers(-1024, 3000, shape).astype(np.int16)


def stretch(shape: tuple[int, ...], grid: tuple[int, ...]) -> list[Axis]:
    return [Axis(n, size, n / size) for n, size in zip(shape, grid, strict=True)]


def volume_of(array: HU, spacing: tuple[float, float, float] = (3.0, 0.7, 0.8)) -> Volume:
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = spacing
    affine[:, 3] = [10.0, -20.0, 30.0, 1.0]
    return Volume(array, affine)


def naive_line(values: npt.NDArray[np.int16], size: int) -> list[float]:
    """Antialiased linear resampling of one line, weight by weight in float64."""
    scale = len(values) / size
    support = max(1.0, scale)
    result = []
    for o in range(size):
        centre = (o + 0.5) * scale
        weights = [max(0.0, 1 - abs(j + 0.5 - centre) / support) for j in range(len(values))]
        result.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
    return result


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5))
def test_each_axis_is_resampled_as_a_naive_loop_does(native: int, size: int, seed: int) -> None:
    line = noise((native, 1, 1), seed)
    expected = naive_line(line[:, 0, 0], size)
    for axis in range(3):
        array = np.moveaxis(line, 0, axis)
        grid = [1, 1, 1]
        grid[axis] = size
        got = resample_image(array, stretch(array.shape, tuple(grid)), RANGE).ravel()
        np.testing.assert_allclose(got, expected, atol=0.502)


def test_a_plane_is_resampled_as_torch_does_with_antialiasing() -> None:
    plane = noise((1, 37, 53))
    got = resample_image(plane, stretch(plane.shape, (1, 20, 70)), RANGE)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(plane.astype(np.float64))[None],
        (20, 70),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )[0]
    np.testing.assert_allclose(got, expected.numpy(), atol=0.502)


def test_thick_volumes_are_cut_into_slabs_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    array = noise((23, 11, 9))
    whole = resample_image(array, stretch(array.shape, (13, 7, 8)), RANGE)
    monkeypatch.setattr("uvlm.data.ct.resample._SLAB_VOXELS", 200)
    slabs = resample_image(array, stretch(array.shape, (13, 7, 8)), RANGE)
    np.testing.assert_array_equal(slabs, whole)


def test_the_same_bytes_on_every_machine() -> None:
    """The digest was written down once; another one means that caches would differ."""
    array, _ = preprocess_volume(volume_of(noise((9, 11, 13))), CONFIG)
    assert array_sha256(array) == (
        "d8258cd4aed806bf3ac149fea48e8d54cea440f908d605e16d3e5e884a35e88b"
    )


def test_values_are_clipped_before_they_are_mixed() -> None:
    array = np.array([-8192, 100, 100, 100], np.int16).reshape(4, 1, 1)
    got = resample_image(array, stretch((4, 1, 1), (2, 1, 1)), (-1000, 1000))
    # Weights of the first output: 3/4, 3/4, 1/4 of 7/4.
    assert got.ravel().tolist() == [round((-1000 * 3 + 100 * 4) / 7), 100]


@pytest.mark.parametrize("flips", list(product((False, True), repeat=3)))
@pytest.mark.parametrize("source", list(permutations(range(3))))
def test_all_48_layouts_give_the_same_array_and_take_their_labels_back(
    source: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> None:
    canonical = volume_of(noise((9, 11, 13)))
    order = AxisOrder(source, flips)
    stored = Volume(
        order.backward(canonical.array),
        order.stored_affine(canonical.affine, canonical.array.shape),
    )
    expected, straight = preprocess_volume(canonical, CONFIG)
    array, geometry = preprocess_volume(stored, CONFIG)
    np.testing.assert_array_equal(array, expected)
    labels = (expected > 0).astype(np.uint8)
    back = geometry.labels_to_native(labels)
    assert back.array.shape == stored.array.shape
    np.testing.assert_array_equal(back.affine, stored.affine)
    np.testing.assert_array_equal(
        order.forward(back.array), straight.labels_to_native(labels).array
    )


def test_labels_survive_the_way_to_a_finer_grid_and_back() -> None:
    volume = volume_of(noise((5, 6, 7)))
    labels = np.random.default_rng(1).integers(0, 49, (5, 6, 7)).astype(np.uint8)
    config = CONFIG.model_copy(update={"grid": (11, 13, 20)})
    geometry = Geometry.of(volume, config)
    back = geometry.labels_to_native(geometry.labels_to_grid(labels))
    np.testing.assert_array_equal(back.array, labels)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 30))
def test_nearest_takes_the_voxel_that_holds_the_centre(native: int, size: int) -> None:
    line = np.arange(native, dtype=np.uint8).reshape(native, 1, 1)
    got = resample_labels(line, stretch(line.shape, (size, 1, 1))).ravel()
    exact = [((2 * o + 1) * native) // (2 * size) for o in range(size)]
    on_edge = [((2 * o + 1) * native) % (2 * size) == 0 for o in range(size)]
    for value, expected, edge in zip(got, exact, on_edge, strict=True):
        assert value == expected or (edge and value == expected - 1)


def test_the_grid_affine_points_at_the_sampled_places() -> None:
    volume = volume_of(noise((9, 11, 13)))
    affine = Geometry.of(volume, CONFIG).grid_affine
    for index, edge in (
        ((-0.5, -0.5, -0.5), (-0.5, -0.5, -0.5)),
        ((5.5, 7.5, 9.5), (8.5, 10.5, 12.5)),
    ):
        np.testing.assert_allclose(affine @ [*index, 1], volume.affine @ [*edge, 1], atol=1e-9)


def test_resample_pad_keeps_proportions_and_pads_with_air() -> None:
    config = CONFIG.model_copy(
        update={"resize": "resample_pad", "spacing_mm": (3.0, 1.4, 1.6), "grid": (12, 8, 4)}
    )
    volume = volume_of(np.full((10, 10, 20), 40, np.int16))
    array, geometry = preprocess_volume(volume, config)
    assert set(np.unique(array)) == {-1024, 40}
    assert (array[0] == -1024).all()
    assert (array[1:11, 2:6] == 40).all()
    assert np.linalg.norm(geometry.grid_affine[:3, :3], axis=0) == pytest.approx((3.0, 1.4, 1.6))
    middle = np.array([5.5, 3.5, 1.5, 1.0])
    np.testing.assert_allclose(
        geometry.grid_affine @ middle, volume.affine @ [4.5, 4.5, 9.5, 1.0], atol=1e-9
    )
    back = geometry.labels_to_native(np.ones(config.grid, np.uint8))
    assert back.array[:, :, 6:14].all()
    assert not back.array[:, :, :6].any()


def test_geometry_survives_json() -> None:
    geometry = Geometry.of(volume_of(noise((9, 11, 13))), CONFIG)
    again = Geometry.from_json(json.loads(json.dumps(geometry.to_json())))
    np.testing.assert_array_equal(again.grid_affine, geometry.grid_affine)
    assert (again.shape, again.grid, again.scale) == (
        geometry.shape,
        geometry.grid,
        geometry.scale,
    )


def test_window_is_clip_and_divide() -> None:
    array = np.array([-2000, -1000, 0, 250, 1000, 3000], np.int16)
    assert normalise(array, CONFIG).tolist() == [-1, -1, 0, 0.25, 1, 1]
    narrow = CONFIG.model_copy(update={"window_hu": (-160, 240)})
    assert normalise(np.array([40], np.int16), narrow).tolist() == [0]


def test_zscore_of_a_patch_uses_the_whole_volume() -> None:
    config = CONFIG.model_copy(update={"normalise": "zscore"})
    array = noise((6, 8, 10))
    whole = normalise(array, config)
    assert abs(float(whole.mean())) < 1e-4
    assert float(whole.std()) == pytest.approx(1, abs=1e-4)
    patch = normalise(array[:2], config, volume_statistics(array))
    np.testing.assert_array_equal(patch, whole[:2])


def test_statistics_are_those_of_float64() -> None:
    array = noise((20, 30, 40))
    mean, std = volume_statistics(array)
    assert math.isclose(mean, array.mean(dtype=np.float64), abs_tol=1e-6)
    assert math.isclose(std, array.std(dtype=np.float64), abs_tol=1e-6)


def test_the_contract_changes_with_every_number_of_the_section() -> None:
    changes = {
        "clip_hu": (-1000, 3071),
        "grid": (6, 8, 12),
        "resize": "resample_pad",
        "spacing_mm": (1.0, 1.0, 1.0),
        "normalise": "zscore",
        "window_hu": (-1000, 999),
    }
    hashes = {contract_sha256(CONFIG.model_copy(update={k: v})) for k, v in changes.items()}
    assert len(hashes | {contract_sha256(CONFIG)}) == 7
    assert set(PreprocessConfig.model_fields) < set(contract(CONFIG))
