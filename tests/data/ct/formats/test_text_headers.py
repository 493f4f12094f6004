"""NRRD and MetaImage: SimpleITK's files read as it reads them, edited headers refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from uvlm.data.ct.io import read_label_map, read_volume
from uvlm.data.ct.volume import ReadError, Volume

TURN = np.array([[0.0, -1, 0], [0, 0, 1], [-1, 0, 0]])


def image_of(volume: Volume, dtype: str = "i2") -> Any:
    """The volume as SimpleITK has it, with axes that are neither identity nor symmetric."""
    image = sitk.GetImageFromArray(volume.array.astype(dtype))
    image.SetSpacing([0.7, 0.8, 3.0])
    image.SetOrigin([-10.5, 20.25, 33.0])
    image.SetDirection(TURN.ravel().tolist())
    return image


def write(path: Path, image: Any, *, compressed: bool) -> Path:
    sitk.WriteImage(image, str(path), useCompression=compressed)
    return path


def edit(path: Path, old: str, new: str) -> Path:
    """Replace text of the header."""
    payload = path.read_bytes()
    assert payload.count(old.encode()) == 1, payload[:600]
    path.write_bytes(payload.replace(old.encode(), new.encode()))
    return path


def reason_of(path: Path) -> str:
    with pytest.raises(ReadError, match=path.name) as caught:
        read_volume(path)
    assert caught.value.remedy
    return caught.value.reason


@pytest.mark.parametrize("dtype", ["i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_what_simpleitk_writes_is_read_as_it_reads_it(
    tmp_path: Path, volume: Volume, ending: str, compressed: bool, dtype: str
) -> None:
    image = image_of(volume, dtype)
    read = read_volume(write(tmp_path / f"a.{ending}", image, compressed=compressed))
    np.testing.assert_array_equal(read.array, volume.array)
    for z, y, x in [(0, 0, 0), (9, 0, 0), (0, 11, 0), (0, 0, 13), (9, 11, 13)]:
        point = (read.affine @ [z, y, x, 1])[:3]
        np.testing.assert_allclose(point, image.TransformIndexToPhysicalPoint((x, y, z)), atol=1e-6)


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_label_maps_may_have_any_format(tmp_path: Path, ending: str) -> None:
    labels = np.random.default_rng(0).integers(0, 118, (10, 12, 14)).astype(np.uint8)
    path = write(tmp_path / f"a.{ending}", sitk.GetImageFromArray(labels), compressed=True)
    np.testing.assert_array_equal(read_label_map(path).array, labels)


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_big_endian_voxels_are_turned(tmp_path: Path, volume: Volume, ending: str) -> None:
    path = write(tmp_path / f"a.{ending}", image_of(volume), compressed=False)
    head = path.read_bytes()[: -volume.array.nbytes]
    head = head.replace(b"endian: little", b"endian: big")
    head = head.replace(b"ByteOrderMSB = False", b"ByteOrderMSB = True")
    path.write_bytes(head + volume.array.astype(">i2").tobytes())
    np.testing.assert_array_equal(read_volume(path).array, volume.array)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_every_cut_and_every_tail_is_refused(
    tmp_path: Path, volume: Volume, ending: str, compressed: bool
) -> None:
    path = write(tmp_path / f"a.{ending}", image_of(volume), compressed=compressed)
    payload = path.read_bytes()
    generator = np.random.default_rng(5)
    for length in [*generator.integers(0, len(payload), 40), len(payload) - 1]:
        path.write_bytes(payload[:length])
        reason_of(path)
    for tail in (b"\0", b"garbage", payload):
        path.write_bytes(payload + tail)
        assert reason_of(path) in ("size_mismatch", "trailing_bytes")


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_every_flipped_bit_of_a_compressed_stream_is_refused(
    tmp_path: Path, volume: Volume, ending: str
) -> None:
    path = write(tmp_path / f"a.{ending}", image_of(volume), compressed=True)
    payload = path.read_bytes()
    start = payload.index(b"\n\n") + 14 if ending == "nrrd" else payload.index(b"LOCAL\n") + 8
    for position in np.random.default_rng(6).integers(start, len(payload), 60):
        damaged = bytearray(payload)
        damaged[position] ^= 1 << int(position % 8)
        path.write_bytes(damaged)
        reason_of(path)


NRRD_FAULTS = {
    "larger": ("sizes: 14 12 10", "sizes: 14 12 11", "size_mismatch"),
    "huge": ("sizes: 14 12 10", "sizes: 32767 32767 32767", "dimensions"),
    "beyond_deflate": ("sizes: 14 12 10", "sizes: 900 900 900", "size_mismatch"),
    "no_length": ("sizes: 14 12 10", "sizes: 0 12 10", "dimensions"),
    "two_lengths": ("sizes: 14 12 10", "sizes: 14 120", "header"),
    "negative": ("sizes: 14 12 10", "sizes: -14 12 10", "header"),
    "one_slice": ("sizes: 14 12 10", "sizes: 140 12 1", "single_slice"),
    "few_slices": ("sizes: 14 12 10", "sizes: 28 12 5", "too_few_slices"),
    "four_axes": ("dimension: 3\n", "dimension: 4\n", "header"),
    "another_type": ("type: short", "type: block", "voxel_type"),
    "colours": ("kinds: domain domain domain", "kinds: RGB-color domain domain", "voxel_type"),
    "no_endian": ("endian: little\n", "", "header"),
    "text": ("encoding: gzip", "encoding: ascii", "header"),
    "another_file": ("encoding: gzip", "encoding: gzip\ndata file: b.raw", "detached"),
    "skipped_bytes": ("encoding: gzip", "encoding: gzip\nbyte skip: 4", "header"),
    "a_field_twice": ("type: short", "type: short\ntype: float", "header"),
    "no_space": ("space: left-posterior-superior\n", "", "no_orientation"),
    "scanner_space": ("space: left-posterior-superior", "space: scanner-xyz", "header"),
    "zero_spacing": ("(0,0,-0.69999999999999996)", "(0,0,0)", "spacing"),
    "nan_spacing": ("(0,0,-0.69999999999999996)", "(0,0,nan)", "geometry"),
    "no_direction": ("(0,0,-0.69999999999999996)", "none", "header"),
    "sheared": ("(0,0,-0.69999999999999996)", "(0,0.3,-0.7)", "sheared"),
    "cut_origin": ("space origin: (-10.5,20.25,33)", "space origin: (-10.5,20.25", "header"),
    "other_version": ("NRRD0004", "NRRD0009", "not_nrrd"),
}


@pytest.mark.parametrize("fault", NRRD_FAULTS)
def test_a_faulty_nrrd_header_is_refused(tmp_path: Path, volume: Volume, fault: str) -> None:
    old, new, reason = NRRD_FAULTS[fault]
    path = write(tmp_path / "a.nrrd", image_of(volume), compressed=True)
    assert reason_of(edit(path, old, new)) == reason


MHA_FAULTS = {
    "larger": ("DimSize = 14 12 10", "DimSize = 14 12 11", "size_mismatch"),
    "smaller": ("DimSize = 14 12 10", "DimSize = 14 12 9", "size_mismatch"),
    "huge": ("DimSize = 14 12 10", "DimSize = 32767 32767 32767", "dimensions"),
    "one_slice": ("DimSize = 14 12 10", "DimSize = 140 12 1", "single_slice"),
    "two_axes": ("NDims = 3", "NDims = 2", "header"),
    "fraction": ("DimSize = 14 12 10", "DimSize = 14 12 10.5", "header"),
    "unsigned": ("MET_SHORT", "MET_OTHER", "voxel_type"),
    "colours": ("ElementType", "ElementNumberOfChannels = 3\nElementType", "voxel_type"),
    "another_file": ("ElementDataFile = LOCAL", "ElementDataFile = a.raw", "detached"),
    "text": ("BinaryData = True", "BinaryData = False", "header"),
    "other_compressed_size": ("CompressedDataSize = ", "CompressedDataSize = 1", "size_mismatch"),
    "zero_spacing": ("ElementSpacing = ", "ElementSpacing = 0 1 1\nComment = ", "spacing"),
    "no_spacing": ("ElementSpacing", "ElementSpaces", "header"),
    "no_matrix": ("TransformMatrix", "Transform", "no_orientation"),
    "no_origin": ("Offset", "Away", "no_orientation"),
    "long_matrix": ("Matrix = 0 0 -1", "Matrix = 0 0 -2", "geometry"),
    "sheared": ("Matrix = 0 0 -1", "Matrix = 0 0.6 -0.8", "sheared"),
    "nan_matrix": ("Matrix = 0 0 -1", "Matrix = 0 0 nan", "geometry"),
}


@pytest.mark.parametrize("fault", MHA_FAULTS)
def test_a_faulty_metaimage_header_is_refused(tmp_path: Path, volume: Volume, fault: str) -> None:
    old, new, reason = MHA_FAULTS[fault]
    path = write(tmp_path / "a.mha", image_of(volume), compressed=True)
    assert reason_of(edit(path, old, new)) == reason


@pytest.mark.parametrize(("header", "data"), [("a.mhd", "a.raw"), ("a.nhdr", "a.raw")])
def test_a_header_whose_voxels_lie_beside_it_is_refused(
    tmp_path: Path, volume: Volume, header: str, data: str
) -> None:
    path = write(tmp_path / header, image_of(volume), compressed=False)
    assert (tmp_path / data).exists()
    assert reason_of(path) == "detached"


@pytest.mark.parametrize(
    "make",
    [lambda image: sitk.JoinSeries([image, image]), lambda image: sitk.Compose(image, image)],
)
@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_several_volumes_and_vectors_are_refused(
    tmp_path: Path, volume: Volume, ending: str, make: Callable[[Any], Any]
) -> None:
    path = write(tmp_path / f"a.{ending}", make(image_of(volume)), compressed=False)
    assert reason_of(path) in ("several_volumes", "voxel_type")


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_no_byte_of_a_header_makes_the_reader_fail_otherwise_than_by_refusing(
    tmp_path: Path, volume: Volume, ending: str
) -> None:
    path = write(tmp_path / f"a.{ending}", image_of(volume), compressed=True)
    payload = path.read_bytes()
    end = payload.index(b"\n\n" if ending == "nrrd" else b"LOCAL\n")
    generator = np.random.default_rng(7)
    outcomes = set()
    for place in generator.integers(0, end, 600):
        damaged = bytearray(payload)
        damaged[place] = generator.choice([generator.integers(256), *b" \n0e9-.,("])
        path.write_bytes(damaged)
        try:
            read_volume(path)
            outcomes.add("read")
        except ReadError as error:
            outcomes.add(error.reason)
    assert {"read", "header", "size_mismatch"} <= outcomes


@pytest.mark.parametrize("text", ["1e300", "-1e300", "1e7", "inf", "nan"])
@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_an_absurd_place_is_refused(tmp_path: Path, volume: Volume, ending: str, text: str) -> None:
    path = write(tmp_path / f"a.{ending}", image_of(volume), compressed=True)
    assert reason_of(edit(path, "-10.5", text)) == "geometry"


def test_the_real_nrrd_is_read_as_simpleitk_reads_it(real_data: Path) -> None:
    path = real_data / "ct/thorax_ct-64.nrrd"
    read, image = read_volume(path), sitk.ReadImage(str(path))
    np.testing.assert_array_equal(read.array, sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(read.spacing[::-1], image.GetSpacing())
    lungs = read_label_map(real_data / "ct/thorax_wholeLung-64.nrrd")
    np.testing.assert_allclose(lungs.affine, read.affine)
    assert np.median(read.array[lungs.array > 0]) < -700
