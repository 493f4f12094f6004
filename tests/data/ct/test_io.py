"""The strict reader: nibabel and SimpleITK agree on good files, bad files are refused by name."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from uvlm.data.ct.io import (
    read_findings,
    read_label_map,
    read_volume,
    write_findings_mask,
    write_label_map,
    write_volume,
)
from uvlm.data.ct.volume import LabelMap, ReadError, Volume
from uvlm.errors import DataError

nibabel: Any = import_module("nibabel")
REAL = os.environ.get("UVLM_REAL_DATA")
needs_real_data = pytest.mark.skipif(not REAL, reason="UVLM_REAL_DATA names no folder of real data")


def real(name: str) -> Path:
    return Path(REAL or "") / name


def edit(path: Path, change: Callable[[bytearray], None]) -> Path:
    """Change the decompressed bytes of a file."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    change(raw)
    path.write_bytes(gzip.compress(bytes(raw), 1))
    return path


def pack(layout: str, offset: int, *values: float | bytes) -> Callable[[bytearray], None]:
    return lambda raw: struct.pack_into("<" + layout, raw, offset, *values)


def test_a_volume_comes_back_as_it_was_written(path: Path, volume: Volume) -> None:
    back = read_volume(path)
    assert back.array.dtype == np.int16
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.affine, volume.affine, rtol=1e-6)


def test_nibabel_reads_what_we_write(path: Path, volume: Volume) -> None:
    image = nibabel.load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, volume.array)
    lps = np.diag([-1, -1, 1, 1]) @ image.affine
    np.testing.assert_allclose(lps[:, [2, 1, 0, 3]], volume.affine, rtol=1e-6)


def test_simpleitk_places_every_corner_where_we_do(path: Path, volume: Volume) -> None:
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volume.array)
    read = read_volume(path)
    for z, y, x in [(0, 0, 0), (9, 0, 0), (0, 11, 0), (0, 0, 13), (9, 11, 13)]:
        point = (read.affine @ [z, y, x, 1])[:3]
        np.testing.assert_allclose(point, image.TransformIndexToPhysicalPoint((x, y, z)), atol=1e-4)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64, ">i2", ">f4"])
def test_files_of_nibabel_are_read_in_any_type_and_byte_order(
    tmp_path: Path, volume: Volume, dtype: str
) -> None:
    order = ">" if isinstance(dtype, str) else "<"
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(dtype)
    affine = np.diag([-0.8, 0.7, 3.0, 1.0])
    image = nibabel.Nifti1Image(volume.array.T.astype(dtype), affine, header)
    image.set_qform(affine, 1)
    nibabel.save(image, tmp_path / "a.nii.gz")
    nibabel.save(image, tmp_path / "a.nii")
    for name in ("a.nii.gz", "a.nii"):
        read = read_volume(tmp_path / name)
        np.testing.assert_array_equal(read.array, volume.array)
        assert read.orientation() == "LAS"
        assert read.spacing == pytest.approx((3.0, 0.7, 0.8))


def test_slope_and_intercept_are_applied_once(path: Path, volume: Volume) -> None:
    def shift(raw: bytearray) -> None:
        voxels = np.frombuffer(raw, "<i2", offset=352) + 1024
        raw[352:] = voxels.astype("<i2").tobytes()
        struct.pack_into("<2f", raw, 112, 1.0, -1024.0)

    read = read_volume(edit(path, shift))
    assert read.array.dtype == np.int16
    np.testing.assert_array_equal(read.array, volume.array)


def test_a_fractional_slope_gives_float32(path: Path, volume: Volume) -> None:
    read = read_volume(edit(path, pack("2f", 112, 0.75, 1.5)))
    assert read.array.dtype == np.float32
    np.testing.assert_allclose(read.array, volume.array * 0.75 + 1.5, rtol=1e-5)


def test_a_quaternion_alone_is_enough_and_agrees_with_nibabel(
    tmp_path: Path, volume: Volume
) -> None:
    turn = nibabel.eulerangles.euler2mat(0.1, -0.05, 0.15) * [0.8, 0.7, -3.0]
    affine = nibabel.affines.from_matvec(turn, [5, 6, 7])
    image = nibabel.Nifti1Image(volume.array.T, None)
    image.set_qform(affine, 1)
    nibabel.save(image, tmp_path / "q.nii.gz")
    expected = (np.diag([-1, -1, 1, 1]) @ affine)[:, [2, 1, 0, 3]]
    np.testing.assert_allclose(read_volume(tmp_path / "q.nii.gz").affine, expected, atol=1e-5)


def test_a_trailing_axis_of_one_is_dropped(tmp_path: Path, volume: Volume) -> None:
    image = nibabel.Nifti1Image(volume.array.T[..., None], np.eye(4))
    nibabel.save(image, tmp_path / "four.nii.gz")
    assert read_volume(tmp_path / "four.nii.gz").array.shape == volume.array.shape


def test_a_file_of_two_gzip_members_is_read_whole(path: Path, volume: Volume) -> None:
    raw = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(raw[:1000]) + gzip.compress(raw[1000:]))
    np.testing.assert_array_equal(read_volume(path).array, volume.array)


@pytest.mark.parametrize("beyond", [-2, -1, 0, 1, 2, 30])
def test_a_member_may_end_anywhere_in_what_is_read_at_once(
    path: Path, volume: Volume, beyond: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = gzip.decompress(path.read_bytes())
    first = gzip.compress(raw[:1500])
    path.write_bytes(first + gzip.compress(raw[1500:]))
    monkeypatch.setattr("uvlm.data.ct.formats.verified._PIECE", len(first) + beyond)
    np.testing.assert_array_equal(read_volume(path).array, volume.array)


def test_a_file_beside_with_a_similar_name_is_not_read_instead(path: Path, volume: Volume) -> None:
    nibabel.save(nibabel.Nifti1Image(volume.array.T + 7, np.eye(4)), path.with_suffix(""))
    np.testing.assert_array_equal(read_volume(path).array, volume.array)


def test_label_maps_come_back_and_other_values_are_refused(tmp_path: Path, volume: Volume) -> None:
    labels = np.random.default_rng(2).integers(0, 118, volume.array.shape).astype(np.uint8)
    write_label_map(tmp_path / "l.nii.gz", LabelMap(labels, volume.affine))
    np.testing.assert_array_equal(read_label_map(tmp_path / "l.nii.gz").array, labels)
    affine = np.diag([1.0, 1, 1, 1])
    nibabel.save(nibabel.Nifti1Image(labels.T.astype(np.float32), affine), tmp_path / "f.nii.gz")
    np.testing.assert_array_equal(read_label_map(tmp_path / "f.nii.gz").array, labels)
    write_volume(tmp_path / "v.nii.gz", volume)
    with pytest.raises(ReadError, match="class ids"):
        read_label_map(tmp_path / "v.nii.gz")


def test_findings_masks_follow_the_index_order_of_their_ct(tmp_path: Path) -> None:
    mask = np.random.default_rng(3).integers(0, 3, (2, 5, 6, 7)).astype(np.uint8)
    write_findings_mask(tmp_path / "m.nii.gz", mask)
    image = nibabel.load(tmp_path / "m.nii.gz")
    assert image.shape == (2, 7, 6, 5)
    np.testing.assert_array_equal(image.affine, np.eye(4))
    np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(0, 3, 2, 1), mask)
    np.testing.assert_array_equal(read_findings(tmp_path / "m.nii.gz").array, mask)


def test_a_findings_mask_of_one_finding_keeps_its_axis(tmp_path: Path) -> None:
    mask = np.ones((1, 4, 5, 6), np.uint8)
    nibabel.save(nibabel.Nifti1Image(mask.transpose(0, 3, 2, 1), np.eye(4)), tmp_path / "m.nii.gz")
    assert read_findings(tmp_path / "m.nii.gz").array.shape == (1, 4, 5, 6)
    write_label_map(tmp_path / "l.nii.gz", LabelMap(mask[0], np.eye(4)[:, [2, 1, 0, 3]]))
    with pytest.raises(DataError, match="not \\(F, x, y, z\\)"):
        read_findings(tmp_path / "l.nii.gz")


@needs_real_data
def test_a_real_ct_is_read_as_nibabel_reads_it() -> None:
    volume = read_volume(real("ct/chest_abdomen_3mm.nii.gz"))
    image = nibabel.load(real("ct/chest_abdomen_3mm.nii.gz"))
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, np.asarray(image.dataobj).T)
    assert (volume.orientation(), volume.spacing) == ("RAS", (3.0, 3.0, 3.0))
