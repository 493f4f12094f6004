"""What the strict reader refuses: damaged streams, repaired headers, values that are not HU."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvlm.data.ct.io import read_volume, write_volume
from uvlm.data.ct.volume import ReadError, Volume

Draw = Callable[..., npt.NDArray[np.int16]]
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


def reason_of(path: Path) -> str:
    with pytest.raises(ReadError, match=path.name) as caught:
        read_volume(path)
    return caught.value.reason


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, chest: Draw) -> bytes:
    """A file of more than 8 MB of voxels: smaller ones hide what other readers miss."""
    path = tmp_path_factory.mktemp("large") / "ct.nii.gz"
    write_volume(path, Volume(chest(150, 170, 170), np.diag([1.0, 1, 1, 1])[:, [2, 1, 0, 3]]))
    return path.read_bytes()


@pytest.mark.slow
def test_every_cut_is_refused(tmp_path: Path, large: bytes) -> None:
    for position in np.random.default_rng(0).integers(1, len(large), 12):
        (tmp_path / "cut.nii.gz").write_bytes(large[:position])
        assert reason_of(tmp_path / "cut.nii.gz") == "truncated_gzip"
    (tmp_path / "cut.nii.gz").write_bytes(large[:-1])
    assert reason_of(tmp_path / "cut.nii.gz") == "truncated_gzip"


@pytest.mark.slow
def test_every_flipped_bit_is_refused(tmp_path: Path, large: bytes) -> None:
    generator = np.random.default_rng(1)
    for position in [*generator.integers(20, len(large), 12), len(large) - 1, len(large) - 6]:
        damaged = bytearray(large)
        damaged[position] ^= 1 << int(generator.integers(8))
        (tmp_path / "flip.nii.gz").write_bytes(damaged)
        with pytest.raises(ReadError, match=r"flip\.nii\.gz"):
            read_volume(tmp_path / "flip.nii.gz")


def test_bytes_after_the_end_are_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"garbage")
    assert reason_of(path) == "trailing_bytes"


HEADER_FAULTS = {
    "declares_more_voxels": (pack("h", 42, 15), "size_mismatch"),
    "declares_fewer_voxels": (pack("h", 42, 13), "size_mismatch"),
    "declares_32767_cubed": (pack("3h", 42, 32767, 32767, 32767), "dimensions"),
    "declares_more_than_deflate_can_hold": (pack("3h", 42, 1000, 1000, 1000), "size_mismatch"),
    "negative_dimension": (pack("h", 42, -14), "dimensions"),
    "two_dimensions": (pack("4h", 40, 2, 14, 120, 1), "single_slice"),
    "one_slice": (pack("4h", 40, 3, 14, 120, 1), "single_slice"),
    "seven_slices": (pack("4h", 40, 3, 20, 12, 7), "too_few_slices"),
    "two_volumes": (pack("5h", 40, 4, 14, 12, 5, 2), "several_volumes"),
    "rgb": (pack("2h", 70, 128, 24), "voxel_type"),
    "bits_of_another_type": (pack("h", 72, 32), "voxel_type"),
    "in_metres": (pack("B", 123, 1), "spacing"),
    "in_micrometres": (pack("B", 123, 3), "spacing"),
    "complex": (pack("h", 70, 32), "voxel_type"),
    "zero_spacing": (pack("f", 80, 0.0), "spacing"),
    "nan_spacing": (pack("f", 84, np.nan), "spacing"),
    "infinite_spacing": (pack("f", 88, np.inf), "spacing"),
    "absurd_spacing": (pack("f", 88, 30.0), "spacing"),
    "spacing_disagrees_with_sform": (pack("f", 80, 1.0), "spacing_and_affine"),
    "no_orientation": (pack("2h", 252, 0, 0), "no_orientation"),
    "sheared": (pack("2f", 280, -0.8, 0.05), "sheared"),
    "sform_of_nan": (pack("f", 292, np.nan), "geometry"),
    "qform_flips_left_and_right": (
        pack("2h3f3f", 252, 1, 1, 0, 1, 0, -10, 20, 30),
        "sform_and_qform",
    ),
    "quaternion_too_long": (pack("2h3f", 252, 1, 1, 1, 1, 1), "geometry"),
    "slope_of_nan": (pack("f", 112, np.nan), "scaling"),
    "voxels_start_inside_the_header": (pack("f", 108, 100.0), "header"),
    "pair_of_files": (pack("4s", 344, b"ni1\0"), "unsupported_format"),
    "no_magic": (pack("i", 344, 0), "not_nifti"),
    "nifti_2": (pack("i", 0, 540), "unsupported_format"),
}


@pytest.mark.parametrize("fault", HEADER_FAULTS)
def test_a_header_that_other_readers_repair_in_silence_is_refused(path: Path, fault: str) -> None:
    change, reason = HEADER_FAULTS[fault]
    assert reason_of(edit(path, change)) == reason


@pytest.mark.parametrize(("degrees", "reason"), [(10, ""), (20, "oblique"), (45, "oblique")])
def test_axes_turned_far_from_the_patient_are_refused(
    tmp_path: Path, volume: Volume, degrees: float, reason: str
) -> None:
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    path = tmp_path / "turned.nii.gz"
    write_volume(path, Volume(volume.array, turn @ volume.affine))
    if reason:
        assert reason_of(path) == reason
    else:
        assert read_volume(path).orientation() == "LAS"


@settings(deadline=None)
@given(st.floats(width=32, allow_nan=True, allow_infinity=True), st.integers(0, 2))
def test_no_spacing_out_of_range_is_ever_accepted(
    tmp_path_factory: pytest.TempPathFactory, chest: Draw, value: float, axis: int
) -> None:
    path = tmp_path_factory.mktemp("spacing") / "a.nii.gz"
    write_volume(path, Volume(chest(8, 9, 10), np.diag([1.0, 1, 1, 1])[:, [2, 1, 0, 3]]))
    edit(path, pack("f", 80 + 4 * axis, value))
    edit(path, pack("f", 280 + 20 * axis, value))
    if 0.1 <= value <= 20:
        assert read_volume(path).spacing[2 - axis] == pytest.approx(value, rel=1e-3)
    else:
        assert reason_of(path) == "spacing"


def test_voxels_that_are_not_finite_are_counted(tmp_path: Path, volume: Volume) -> None:
    array = volume.array.astype(np.float32)
    array[0, 0, :3] = [np.nan, np.inf, -np.inf]
    write_volume(tmp_path / "nan.nii.gz", Volume(array, volume.affine))
    with pytest.raises(ReadError, match="3 of 1680 voxels are not finite") as caught:
        read_volume(tmp_path / "nan.nii.gz")
    assert caught.value.reason == "non_finite"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.nii.gz", b"", "empty_file"),
        ("a.mha", b"version https://git-lfs.github.com/spec/v1\n", "not_an_image"),
        ("a.nii.gz", b"<!DOCTYPE html><html>429 Too Many Requests", "not_an_image"),
        ("a.nii.gz", b"PK\x03\x04 and more", "not_an_image"),
        ("a.nii", b"hello", "not_nifti"),
        ("a.nii.gz", gzip.compress(b"hello", mtime=0), "not_nifti"),
        ("a.nrrd", b"NRRD0004", "truncated_header"),
        ("a.nrrd", b"hello\n", "not_nrrd"),
        ("a.mha", b"hello\n", "not_metaimage"),
        ("a.mhd", b"ObjectType = Image\nElementDataFile = a.raw\n", "detached"),
        ("a.img", b"hello", "unsupported_format"),
        ("a.dcm", b"\0" * 128 + b"DICM", "single_slice"),
    ],
)
def test_a_file_that_is_something_else_is_called_what_it_is(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert reason_of(tmp_path / name) == reason


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert reason_of(tmp_path / "none.nii.gz") == "missing_file"
    assert reason_of(tmp_path) == "no_ct_series"


@needs_real_data
def test_a_real_mr_is_refused_as_not_hounsfield() -> None:
    assert reason_of(real("bad/mr_not_ct.nii.gz")) == "not_hounsfield"


@needs_real_data
def test_a_real_lfs_pointer_is_called_one() -> None:
    with pytest.raises(ReadError, match="git-lfs pointer"):
        read_volume(real("bad/git_lfs_pointer.mha"))


@pytest.mark.slow
@needs_real_data
def test_damage_to_a_real_ct_is_refused(tmp_path: Path) -> None:
    payload = real("ct/chest_abdomen_3mm.nii.gz").read_bytes()
    generator = np.random.default_rng(4)
    for position in generator.integers(20, len(payload), 15):
        (tmp_path / "cut.nii.gz").write_bytes(payload[:position])
        assert reason_of(tmp_path / "cut.nii.gz") == "truncated_gzip"
        damaged = bytearray(payload)
        damaged[position] ^= 4
        (tmp_path / "flip.nii.gz").write_bytes(damaged)
        assert reason_of(tmp_path / "flip.nii.gz") in ("damaged_gzip", "truncated_gzip")
