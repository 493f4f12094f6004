"""NRRD and MetaImage headers that are valid but rare: read, or refused with a remedy that works."""

from __future__ import annotations

import bz2
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.data.ct.formats.test_text_headers import edit, image_of, reason_of, write
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.volume import ReadError, Volume


def as_text(volume: Volume) -> bytes:
    return " ".join(map(str, volume.array.ravel().tolist())).encode() + b"\n"


def raw(volume: Volume) -> bytes:
    return volume.array.astype("<i2").tobytes()


UNITS = 'space units: "mm" "mm" "mm"\nencoding: raw'
Payload = Callable[[Volume], bytes]
VARIANTS: dict[str, tuple[str, dict[str, str], Payload]] = {
    "text": ("nrrd", {"encoding: raw": "encoding: ascii"}, as_text),
    "short_space": ("nrrd", {"left-posterior-superior": "LPS"}, raw),
    "units": ("nrrd", {"encoding: raw": UNITS}, raw),
    "centres": ("nrrd", {"encoding: raw": "centerings: cell cell cell\nencoding: raw"}, raw),
    "key_and_value": ("nrrd", {"encoding: raw": "encoding: raw\nmodality:=CT"}, raw),
    "axis_before": (
        "nrrd",
        {
            "dimension: 3": "dimension: 4",
            "sizes: 14": "sizes: 1 14",
            "directions: ": "directions: none ",
            "kinds: domain": "kinds: list domain",
        },
        raw,
    ),
    "text_mha": ("mha", {"BinaryData = True": "BinaryData = False"}, as_text),
    "local": ("mha", {"LOCAL": "Local"}, raw),
    "comment_first": ("mha", {"ObjectType": "Comment = CT\nObjectType"}, raw),
    "numbers_as_flags": ("mha", {"CompressedData = False": "CompressedData = 0"}, raw),
    "rotation": ("mha", {"TransformMatrix": "Rotation", "Offset": "Position"}, raw),
    "units_mha": ("mha", {"ElementType": "DistanceUnits = mm\nElementType"}, raw),
    "no_scale": ("mha", {"ElementType": "ElementToIntensityFunctionSlope = 1\nElementType"}, raw),
    "long": ("mha", {"MET_SHORT": "MET_LONG"}, lambda ct: ct.array.astype("<i4").tobytes()),
}


def variant(folder: Path, volume: Volume, name: str) -> Path:
    """Write with SimpleITK, then edit the header and replace the voxels."""
    ending, edits, payload = VARIANTS[name]
    path = write(folder / f"a.{ending}", image_of(volume), compressed=False)
    head = path.read_bytes()[: -volume.array.nbytes]
    for old, new in edits.items():
        assert head.count(old.encode()) == 1, head
        head = head.replace(old.encode(), new.encode())
    path.write_bytes(head + payload(volume))
    return path


@pytest.mark.parametrize("name", VARIANTS)
def test_another_valid_header_is_read_as_simpleitk_reads_it(
    tmp_path: Path, volume: Volume, name: str
) -> None:
    path = variant(tmp_path, volume, name)
    read, image = read_volume(path), sitk.ReadImage(str(path))
    np.testing.assert_array_equal(read.array, sitk.GetArrayFromImage(image).reshape(10, 12, 14))
    for z, y, x in [(0, 0, 0), (9, 11, 13)]:
        point = (read.affine @ [z, y, x, 1])[:3]
        np.testing.assert_allclose(point, image.TransformIndexToPhysicalPoint((x, y, z)), atol=1e-6)


def test_bzip2_is_read_whole_or_refused(tmp_path: Path, volume: Volume) -> None:
    path = write(tmp_path / "a.nrrd", image_of(volume), compressed=False)
    head = path.read_bytes()[: -volume.array.nbytes].replace(b"encoding: raw", b"encoding: bzip2")
    stream = bz2.compress(raw(volume))
    path.write_bytes(head + stream)
    np.testing.assert_array_equal(read_volume(path).array, volume.array)
    for damaged in (stream[:-1], stream[: len(stream) // 2], stream + b"\0", stream + stream, b""):
        path.write_bytes(head + damaged)
        assert reason_of(path) in ("truncated_bzip2", "trailing_bytes", "size_mismatch")
    for place in np.random.default_rng(3).integers(4, len(stream), 60):  # 4: behind the block size
        flipped = bytearray(stream)
        flipped[place] ^= 1 << int(place % 8)
        path.write_bytes(head + flipped)
        reason_of(path)


def test_a_fourth_axis_of_length_one_is_dropped(tmp_path: Path, volume: Volume) -> None:
    image = sitk.JoinSeries([image_of(volume)])
    read = read_volume(write(tmp_path / "a.mha", image, compressed=True))
    plain = read_volume(write(tmp_path / "b.mha", image_of(volume), compressed=True))
    np.testing.assert_array_equal(read.array, plain.array)
    np.testing.assert_allclose(read.affine, plain.affine)


@pytest.mark.parametrize("content", [b"1 2 3", b"1.5 " * 1680, b"70000 " * 1680, b"x" * 10**6])
def test_voxels_as_text_are_the_declared_numbers_or_refused(
    tmp_path: Path, volume: Volume, content: bytes
) -> None:
    path = variant(tmp_path, volume, "text")
    head = path.read_bytes()[: -len(as_text(volume))]
    path.write_bytes(head + content)
    assert reason_of(path) in ("size_mismatch", "header")


UNREAD: dict[str, tuple[str, str, Payload]] = {
    "hex": ("encoding: raw", "encoding: hex", lambda ct: raw(ct).hex().encode()),
    "bytes": ("encoding: raw", "encoding: raw\nbyte skip: 3", lambda ct: b"123" + raw(ct)),
    "end": ("encoding: raw", "encoding: raw\nbyte skip: -1", lambda ct: b"12345" + raw(ct)),
    "line": ("encoding: raw", "encoding: raw\nline skip: 1", lambda ct: b"line\n" + raw(ct)),
    "header_size": ("ElementType", "HeaderSize = -1\nElementType", raw),
}


def follow(path: Path) -> Volume:
    """Do what the remedy says, and read what that wrote."""
    with pytest.raises(ReadError) as caught:
        read_volume(path)
    _, _, command = caught.value.remedy.partition(": ")
    python, *arguments = shlex.split(command)
    assert python == "python"
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return read_volume(Path(arguments[-1]))


@pytest.mark.parametrize("name", UNREAD)
def test_the_remedy_for_what_is_valid_but_not_read_works(
    tmp_path: Path, volume: Volume, name: str
) -> None:
    old, new, payload = UNREAD[name]
    ending = "mha" if name == "header_size" else "nrrd"
    path = write(tmp_path / f"it's a CT.{ending}", image_of(volume), compressed=False)
    head = path.read_bytes()[: -volume.array.nbytes].replace(old.encode(), new.encode())
    plain = read_volume(path)
    path.write_bytes(head + payload(volume))
    again = follow(path)
    np.testing.assert_array_equal(again.array, volume.array)
    np.testing.assert_allclose(again.affine, plain.affine, atol=1e-6)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("ending", ["nhdr", "mhd"])
def test_the_remedy_for_voxels_in_another_file_works(
    tmp_path: Path, volume: Volume, ending: str, compressed: bool
) -> None:
    path = write(tmp_path / f"a.{ending}", image_of(volume), compressed=compressed)
    np.testing.assert_array_equal(follow(path).array, volume.array)


def test_the_remedy_for_voxels_in_a_list_of_files_works(tmp_path: Path, volume: Volume) -> None:
    path = write(tmp_path / "a.mhd", image_of(volume), compressed=False)
    for number, plane in enumerate(volume.array):
        (tmp_path / f"{number}.raw").write_bytes(plane.astype("<i2").tobytes())
    names = "".join(f"{number}.raw\n" for number in range(10))
    edit(path, "ElementDataFile = a.raw\n", f"ElementDataFile = LIST\n{names}")
    np.testing.assert_array_equal(follow(path).array, volume.array)


@pytest.mark.parametrize(
    ("ending", "old", "new", "reason"),
    [
        ("nrrd", "encoding: gzip", 'space units: "cm" "cm" "cm"\nencoding: gzip', "spacing"),
        ("mha", "ElementType", "DistanceUnits = um\nElementType", "spacing"),
        ("mha", "ElementType", "ElementToIntensityFunctionSlope = 2\nElementType", "header"),
    ],
)
def test_a_unit_or_scale_that_other_readers_drop_is_refused(
    tmp_path: Path, volume: Volume, ending: str, old: str, new: str, reason: str
) -> None:
    path = write(tmp_path / f"a.{ending}", image_of(volume), compressed=True)
    assert reason_of(edit(path, old, new)) == reason


def test_a_direction_that_belongs_to_another_axis_is_refused(
    tmp_path: Path, volume: Volume
) -> None:
    """`none` for the first of four axes, of which the last has the length 1."""
    path = write(tmp_path / "a.nrrd", image_of(volume), compressed=True)
    edit(path, "dimension: 3", "dimension: 4")
    edit(path, "sizes: 14 12 10", "sizes: 14 12 10 1")
    edit(path, "kinds: domain", "kinds: domain domain")
    assert reason_of(edit(path, "directions: ", "directions: none ")) == "several_volumes"
