"""Padding below air, as scanners and resampling write it, is no fault; a wrong scale stays one."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from benchmarks.wrong_scalings import WRONG, Hu
from uvlm.data.ct.formats.stored import StoredImage
from uvlm.data.ct.hounsfield import check_hounsfield, scaled
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.volume import ReadError
from uvlm.data.sets.phantom.anatomy import Body
from uvlm.data.sets.phantom.scan import draw_scan, reconstruct

PATH: Final = Path("ct.nii.gz")
SHAPE: Final = (24, 48, 48)
VALUES: Final = ((-2000,), (-3024,), (-1500,), (-8192,), (-32768,), (-2000, -3024), (-1500, -32768))
SHARES: Final = (0.05, 0.25, 0.5, 0.8)
ORDERS: Final = (0, 1, 3)  # nearest, linear, cubic splines, which ring
Mask = npt.NDArray[np.bool_]


@cache
def draw(seed: int) -> Hu:
    generator = np.random.default_rng(seed)
    scan = draw_scan(Body.draw(generator), [], SHAPE, generator)
    return reconstruct(scan.hu, 25.0, generator).astype(np.int32)


def region(kind: str, shape: tuple[int, ...], share: float) -> Mask:
    """Mark a share of the voxels: outside a circle, whole slices, or one wedge of a corner."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    depth = {"circle": y**2 + x**2, "slices": z + 0 * x, "corner": y + x}[kind]
    marked: Mask = depth > np.quantile(depth, 1 - share)
    return marked


def padded(hu: Hu, seed: int) -> npt.NDArray[np.float64]:
    """Pad in a way that the seed chooses, then resample as it chooses, to 0.8 to 1.6 times."""
    generator = np.random.default_rng(seed)
    kind = str(generator.choice(["circle", "slices", "corner"]))
    share = SHARES[seed % len(SHARES)]
    # A corner that is cut off by more leaves little of the body.
    marked = region(kind, hu.shape, min(share, 0.25) if kind == "corner" else share)
    values = VALUES[seed % len(VALUES)]
    # With two values, the upper half of the volume has the second.
    filling = np.where(np.arange(len(hu))[:, None, None] * 2 < len(hu), values[0], values[-1])
    factor, order = generator.uniform(0.8, 1.6), ORDERS[seed % len(ORDERS)]
    zoomed: npt.NDArray[np.float64] = ndimage.zoom(
        np.where(marked, filling, hu).astype(float), factor, order=order
    )
    return zoomed


def reading(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What the reader makes of these stored values, judged."""
    array = scaled(StoredImage(values, np.eye(4)), PATH)
    check_hounsfield(array, PATH)
    return array


def refused(values: npt.NDArray[Any]) -> bool:
    with pytest.raises(ReadError) as caught:
        reading(values)
    return caught.value.reason == "not_hounsfield"


@pytest.mark.parametrize("seed", range(84))  # every pair of values, share and order
def test_a_padded_ct_is_accepted_however_it_was_resampled(seed: int) -> None:
    values = padded(draw(seed % 5), seed)
    whole = np.clip(np.round(values), -32768, 32767).astype(np.int16)
    np.testing.assert_array_equal(reading(whole), whole)
    np.testing.assert_array_equal(reading(values.astype(np.float32)), values.astype(np.float32))


@pytest.mark.parametrize("seed", range(84))
def test_a_padded_ct_that_was_rescaled_twice_is_refused(seed: int) -> None:
    assert refused(padded(draw(seed % 5), seed) - 1024)


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("value", [-2000, -3024, -32768])
def test_a_wrong_scale_beside_padding_is_refused(name: str, value: int) -> None:
    wrong = WRONG[name](draw(0)).astype(float)
    wrong[region("circle", SHAPE, 0.25)] = value
    assert refused(wrong)


@pytest.mark.parametrize("seed", range(1, 84, 11))  # every order, share and value
@pytest.mark.parametrize("name", WRONG)
def test_smeared_padding_is_not_taken_for_what_a_wrong_scale_lacks(name: str, seed: int) -> None:
    assert refused(padded(WRONG[name](draw(seed % 5)).astype(float), seed))


def test_zeros_outside_a_resampled_volume_are_no_tissue() -> None:
    twice = np.pad(draw(1) - 1024, ((0, 1), (0, 1), (0, 1)))
    assert refused(twice)


@pytest.mark.parametrize("seed", range(20))
def test_a_head_that_was_rescaled_twice_is_refused(seed: int) -> None:
    """Thick bone then lies where soft tissue should, a tenth of all that is not air."""
    generator = np.random.default_rng(seed)
    air = generator.normal(-1000, 15, 6000)
    brain, skull = generator.normal(35, 12, 8000), generator.normal(1000, 300, 2000)
    once = np.concatenate([air, brain, skull]).reshape(20, 20, 40)
    check_hounsfield(once, PATH)
    assert refused(once - 1024)


def test_a_thin_patient_in_a_wide_padded_field_is_accepted() -> None:
    generator = np.random.default_rng(0)
    padding, air = np.full(8000, -2000.0), generator.normal(-1000, 15, 10500)
    tissue = generator.normal(40, 25, 1500)
    reading(np.concatenate([padding, air, tissue]).reshape(20, 20, 50))


@pytest.mark.parametrize("value", [-4e4, -1e9, -3.4e38])
def test_padding_may_lie_far_below_what_int16_holds(value: float) -> None:
    values = draw(1).astype(np.float64)
    values[region("circle", SHAPE, 0.3)] = value
    assert reading(values).min() == np.float32(value)


@pytest.mark.parametrize("value", [1e5, 1e300, -1e300])
def test_values_that_float32_or_no_scanner_has_are_refused(value: float) -> None:
    values = draw(1).astype(np.float64)
    values[5, 5, 5] = value
    assert refused(values)


@pytest.mark.parametrize("name", ["chest_abdomen_3mm.nii.gz", "thorax_ct-64.nrrd", "dicom_series"])
@pytest.mark.slow
def test_real_cts_may_be_padded_and_resampled_but_not_rescaled_twice(
    name: str, real_data: Path
) -> None:
    hu = read_volume(real_data / "ct" / name).array
    steps = tuple(slice(None, None, max(1, length // 60)) for length in hu.shape)
    small = hu[steps].astype(np.int32)
    for seed in range(21):
        values = padded(small, seed)
        reading(values)
        assert refused(values - 1024)
