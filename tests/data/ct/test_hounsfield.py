"""What can be Hounsfield units and what cannot: phantoms, padding, and fourteen wrong scalings."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pytest

from benchmarks.wrong_scalings import WRONG, Hu
from uvlm.data.ct.formats.stored import StoredImage
from uvlm.data.ct.hounsfield import check_hounsfield, sample, scaled
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.volume import ReadError
from uvlm.data.sets.phantom.anatomy import Body
from uvlm.data.sets.phantom.scan import draw_scan, reconstruct

PATH: Final = Path("ct.nii.gz")
SHAPE: Final = (24, 40, 40)


@pytest.fixture(scope="module")
def phantom() -> Hu:
    """A healthy phantom chest as the scanner gives it."""
    return draw(0)


def draw(seed: int) -> Hu:
    generator = np.random.default_rng(seed)
    scan = draw_scan(Body.draw(generator), [], SHAPE, generator)
    return reconstruct(scan.hu, 25.0, generator).astype(np.int32)


def refused(array: Hu) -> str:
    with pytest.raises(ReadError, match="not a CT in Hounsfield units") as caught:
        check_hounsfield(array, PATH)
    assert caught.value.reason == "not_hounsfield"
    return caught.value.fact


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_scaling_is_refused(name: str, phantom: Hu) -> None:
    check_hounsfield(phantom, PATH)
    refused(WRONG[name](phantom))


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_scaling_of_a_real_ct_is_refused(name: str, real_data: Path) -> None:
    for path in ("ct/chest_abdomen_3mm.nii.gz", "ct/thorax_ct-64.nrrd", "ct/dicom_series"):
        hu = read_volume(real_data / path).array.astype(np.int32)
        refused(WRONG[name](np.clip(hu, -1024, 3071)))


@pytest.mark.parametrize("padding", [-1024, -2000, -3024, -8192])
@pytest.mark.parametrize("share", [0.2, 0.9])
def test_padding_around_the_field_of_view_is_no_fault(
    padding: int, share: float, phantom: Hu
) -> None:
    columns = int(share * phantom.shape[2])
    padded = np.concatenate(
        [phantom, np.full((*SHAPE[:2], columns * 2), padding, phantom.dtype)], axis=2
    )
    check_hounsfield(padded, PATH)


def test_thirty_phantoms_and_an_air_filled_room_around_one_are_accepted(phantom: Hu) -> None:
    for seed in range(1, 31):
        check_hounsfield(draw(seed), PATH)
    check_hounsfield(np.pad(phantom, 10, constant_values=-1000), PATH)


@pytest.mark.parametrize(("value", "fact"), [(-3000, "every voxel is -3000"), (0, "no air")])
def test_one_value_everywhere_is_refused(value: int, fact: str) -> None:
    assert fact in refused(np.full(SHAPE, value))


def test_noise_in_the_range_of_a_ct_is_refused() -> None:
    assert "above 500" in refused(np.random.default_rng(0).integers(-1024, 3072, SHAPE))


def test_soft_tissue_at_the_wrong_place_is_refused(phantom: Hu) -> None:
    assert "peaks at" in refused(np.where(phantom > -300, phantom + 260, phantom))


def test_a_large_volume_is_judged_by_a_sample_that_meets_every_column() -> None:
    array = np.broadcast_to(np.arange(512, dtype=np.int16), (40, 512, 512))
    values = sample(np.ascontiguousarray(array))
    assert 1_000_000 < values.size < 4_000_000
    assert set(values.tolist()) == set(range(512))


@pytest.mark.parametrize("slope", [1.00001, 0.96, 1.07, np.nan, np.inf])
def test_a_damaged_slope_is_refused(slope: float, phantom: Hu) -> None:
    with pytest.raises(ReadError, match="scales its values by") as caught:
        scaled(StoredImage(phantom, np.eye(4), slope, 0.0), PATH)
    assert caught.value.reason == "scaling"


@pytest.mark.parametrize("dtype", ["u1", "i2", ">i2", "u2", "i4", "u4", "i8", "f4", "f8"])
@pytest.mark.parametrize(("slope", "inter"), [(1, 0), (0, 0), (1, -1024), (2, 10), (0.5, -3.25)])
def test_scaling_is_that_of_double_precision(dtype: str, slope: float, inter: float) -> None:
    stored = np.random.default_rng(1).integers(0, 255, (8, 9, 10)).astype(dtype)
    array = scaled(StoredImage(stored, np.eye(4), slope, inter), PATH)
    expected = stored.astype(float) * slope + inter if slope else stored.astype(float)
    np.testing.assert_array_equal(array, expected)
    whole = float(slope).is_integer() and float(inter).is_integer()
    assert array.dtype == (np.int16 if whole and dtype[-2] != "f" else np.float32)


def test_a_scale_that_is_whole_but_for_rounding_is_whole(phantom: Hu) -> None:
    image = StoredImage(phantom + 1024, np.eye(4), float(np.float32(1.0000001)), -1023.99994)
    array = scaled(image, PATH)
    assert array.dtype == np.int16
    np.testing.assert_array_equal(array, phantom)
