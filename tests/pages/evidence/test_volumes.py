"""What a page carries of a CT: the same places, nearly the same values, and no more than fits."""

from __future__ import annotations

import base64
import gzip
from itertools import permutations, product
from typing import Any

import nibabel
import numpy as np
import pytest

from uvlm.data.ct.volume import Volume
from uvlm.pages.evidence.volumes import STEP_HU, Shown, as_bytes, fitting, packed

nib: Any = nibabel


def opened(payload: str) -> Any:
    """What nibabel reads of a payload: an image in RAS millimetres."""
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(payload)))


def spotted(order: tuple[int, ...], signs: tuple[int, ...]) -> tuple[Volume, list[float]]:
    """A CT whose axes point anywhere, with one bright place, and where that is (LPS)."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (row, sign) in enumerate(zip(order, signs, strict=True)):
        affine[row, axis] = sign * (2.0, 1.0, 1.5)[axis]
    affine[:3, 3] = (10, -20, 30)
    array = np.full((20, 24, 28), -1000, np.int16)
    array[6:8, 10:12, 20:22] = 800
    return Volume(array, affine), (affine @ [6.5, 10.5, 20.5, 1])[:3].tolist()


@pytest.mark.parametrize(
    ("order", "signs"), [*product(permutations(range(3)), product((1, -1), repeat=3))]
)
@pytest.mark.parametrize("largest", [256, 12])
def test_a_place_of_the_ct_is_at_the_same_millimetres_on_the_page(
    order: tuple[int, ...], signs: tuple[int, ...], largest: int
) -> None:
    volume, (left, back, up) = spotted(order, signs)
    image = opened(Shown.of(volume, largest).payload)
    hu = np.asarray(image.dataobj, float) + 1000
    centre = np.array([(index * hu).sum() / hu.sum() for index in np.indices(hu.shape)])
    found = image.affine @ [*centre, 1]
    assert found[:3] == pytest.approx([-left, -back, up], abs=0.01 if largest == 256 else 0.6)


def test_values_are_those_of_the_ct_within_half_a_step() -> None:
    draws = np.random.default_rng(0)
    hu = draws.integers(-1024, 2000, (9, 10, 11)).astype(np.int16)
    image = opened(Shown.of(Volume(hu, np.eye(4)[[2, 1, 0, 3]])).payload)
    shown = np.asarray(image.dataobj).transpose(2, 1, 0)
    assert np.abs(shown - hu).max() <= STEP_HU / 2


def test_the_most_incompressible_ct_is_shrunk_until_it_fits_and_no_more() -> None:
    noise = np.random.default_rng(1).integers(-1024, 2000, (40, 60, 50)).astype(np.int16)
    volume = Volume(noise, np.eye(4)[[2, 1, 0, 3]])
    for budget in (20_000, 60_000):
        size = len(fitting(volume, budget).payload)
        assert 0.5 * budget < size <= budget
    assert fitting(volume).hu.shape == noise.shape


def test_thick_slices_are_kept_while_the_plane_is_shrunk() -> None:
    affine = np.diag([1.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]] @ np.diag([8.0, 1, 1, 1])
    shown = Shown.of(Volume(np.zeros((10, 200, 200), np.int16), affine), 50)
    assert shown.hu.shape == (10, 50, 50)


def test_a_lesion_of_one_voxel_is_still_there_after_shrinking() -> None:
    volume = Volume(np.zeros((40, 40, 40), np.int16), np.eye(4)[[2, 1, 0, 3]])
    shown = Shown.of(volume, 8)
    for at in np.random.default_rng(2).integers(0, 40, (50, 3)):
        native = np.zeros((40, 40, 40), np.uint8)
        native[:] = 3
        native[tuple(at)] = 7
        found = np.argwhere(shown.labels(native, frozenset({7})) == 7)
        assert found.tolist() == [(at // 5).tolist()]


def test_a_map_is_scaled_to_its_peak_and_a_flat_one_stays_empty() -> None:
    scaled, top = as_bytes(np.array([[[-1.0, 0.5, 2.0]]], np.float32))
    assert scaled.tolist() == [[[0, 64, 255]]]
    assert top == 2.0
    assert as_bytes(np.full((1, 1, 2), -3.0, np.float32))[0].tolist() == [[[0, 0]]]


def test_the_same_volume_is_packed_to_the_same_bytes() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert packed(array, np.eye(4)) == packed(array.copy(), np.eye(4))
