"""Enhanced CT: the same voxels and places as the series of single slices, or a refusal by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID

from benchmarks.dicom_enhanced import LEGACY_CONVERTED, SHARED, Edit, write_enhanced, write_parts
from benchmarks.dicom_series import SYNTAXES, write_series
from tests.data.ct.formats.conftest import AFFINE, refusal
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.volume import ReadError, Volume

Draw = Callable[..., npt.NDArray[np.int16]]


def same(one: Volume, other: Volume) -> None:
    np.testing.assert_array_equal(one.array, other.array)
    assert one.array.dtype == other.array.dtype
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_syntax_gives_what_single_slices_give(
    folder: Path, ct: Volume, syntax: str, table: bool
) -> None:
    write_series(folder / "slices", ct, syntax=syntax)
    write_enhanced(folder / "frames" / "ct", ct, syntax=syntax, table=table)
    read = read_volume(folder / "frames")
    same(read, read_volume(folder / "slices"))
    np.testing.assert_array_equal(read.array, ct.array)
    assert read.origin is not None
    assert (read.origin.kind, read.origin.series_number, read.origin.slices) == ("series", "1", 12)


@pytest.mark.parametrize("seed", range(16))
def test_frames_may_have_any_order_direction_and_sharing(
    folder: Path, chest: Draw, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    shape = tuple(int(n) for n in generator.integers(9, 20, 3))
    turn = np.eye(4)[:, [*generator.permutation(3), 3]]
    scale = np.diag([*(generator.uniform(0.6, 3, 3) * generator.choice([-1, 1], 3)), 1.0])
    affine = turn @ scale
    affine[:3, 3] = generator.uniform(-200, 200, 3)
    volume = Volume(np.maximum(chest(*shape), -1024), affine)
    order = [int(n) for n in generator.permutation(shape[0])]
    groups = [name for name in SHARED if generator.random() < 0.5]
    write_series(folder / "slices", volume)
    write_enhanced(folder / "frames" / "ct", volume, order=order, shared=groups)
    same(read_volume(folder / "frames"), read_volume(folder / "slices"))


def test_simpleitk_reads_the_same_voxels_at_the_same_places(folder: Path, ct: Volume) -> None:
    write_enhanced(folder / "ct.dcm", ct)
    image, read = sitk.ReadImage(str(folder / "ct.dcm")), read_volume(folder)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), read.array)
    for z, y, x in [(0, 0, 0), (11, 0, 0), (0, 23, 0), (11, 23, 19)]:
        point = (read.affine @ [z, y, x, 1])[:3]
        np.testing.assert_allclose(point, image.TransformIndexToPhysicalPoint((x, y, z)), atol=1e-4)


def test_legacy_converted_enhanced_ct_is_read_too(folder: Path, ct: Volume) -> None:
    def converted(dataset: FileDataset) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = LEGACY_CONVERTED

    write_enhanced(folder / "ct", ct, edit=converted)
    np.testing.assert_array_equal(read_volume(folder).array, ct.array)


def test_the_file_itself_may_be_named(folder: Path, ct: Volume) -> None:
    write_enhanced(folder / "ct.dcm", ct)
    same(read_volume(folder / "ct.dcm"), read_volume(folder))
    write_series(folder / "slices", ct)
    one = sorted((folder / "slices").iterdir())[0]
    assert refusal(one).reason == "single_slice"


def test_every_frame_is_scaled_by_its_own_slope_and_intercept(folder: Path, ct: Volume) -> None:
    def doubled(dataset: FileDataset) -> None:
        pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(ct.array.shape).copy()
        pixels[1::2] //= 2
        dataset.PixelData = pixels.tobytes()
        for groups in dataset.PerFrameFunctionalGroupsSequence[1::2]:
            groups.PixelValueTransformationSequence[0].RescaleSlope = "2"

    shared = [name for name in SHARED if name != "PixelValueTransformation"]
    write_enhanced(folder / "ct", ct, shared=shared, edit=doubled)
    read = read_volume(folder)
    np.testing.assert_array_equal(read.array[::2], ct.array[::2])
    halved = (ct.array[1::2].astype(np.int32) + 1024) // 2
    np.testing.assert_array_equal(read.array[1::2], halved * 2 - 1024)


def test_frames_of_several_pieces_are_joined_by_their_table(folder: Path, ct: Volume) -> None:
    def pieces(dataset: FileDataset) -> None:
        frames = list(generate_frames(dataset.PixelData, number_of_frames=12))
        dataset.PixelData = encapsulate(frames, fragments_per_frame=3, has_bot=True)
        dataset["PixelData"].is_undefined_length = True

    write_enhanced(folder / "ct", ct, syntax="jpeg_lossless", edit=pieces)
    np.testing.assert_array_equal(read_volume(folder).array, ct.array)


@pytest.mark.parametrize("total", [True, False])
def test_the_parts_of_a_concatenation_are_joined(folder: Path, ct: Volume, total: bool) -> None:
    write_parts(folder, ct, [5, 4, 3], total=total)
    read = read_volume(folder)
    np.testing.assert_array_equal(read.array, ct.array)
    np.testing.assert_allclose(read.affine, AFFINE, atol=1e-6)


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_concatenation_without_one_of_its_parts_is_refused(
    folder: Path, chest: Draw, lost: int
) -> None:
    write_parts(folder, Volume(np.maximum(chest(30, 24, 20), -1024), AFFINE), [10, 10, 10])
    (folder / f"part{lost}").unlink()
    error = refusal(folder)
    assert (error.reason, f"without part {lost}" in error.fact) == ("missing_slices", True)
    assert refusal(sorted(folder.iterdir())[0]).reason == "missing_slices"


def test_a_part_that_is_there_twice_is_refused(folder: Path, ct: Volume) -> None:
    write_parts(folder, ct, [4, 4, 4])
    shutil.copy(folder / "part2", folder / "copy")
    error = refusal(folder)
    assert (error.reason, "3 parts, which do not fit" in error.fact) == ("missing_slices", True)


def test_two_images_in_one_series_are_refused(folder: Path, ct: Volume) -> None:
    write_enhanced(folder / "a", ct)
    write_enhanced(folder / "b", ct)
    error = refusal(folder)
    assert (error.reason, "2 multi-frame images" in error.fact) == ("mixed_series", True)


def test_a_longer_series_of_single_slices_beside_it_is_preferred_and_it_is_named(
    folder: Path, ct: Volume, chest: Draw
) -> None:
    long = Volume(np.maximum(chest(20, 24, 20), -1024), AFFINE)
    write_enhanced(folder / "frames", ct, series="2")
    write_series(folder / "slices", long)
    read = read_volume(folder)
    np.testing.assert_array_equal(read.array, long.array)
    assert read.origin is not None
    assert [part.what for part in read.origin.left_out] == ["series 2"]


def in_frame(group: str, name: str, value: object, *places: int) -> Edit:
    """Set an attribute of some frames."""

    def edit(dataset: FileDataset) -> None:
        for place in places:
            item = getattr(dataset.PerFrameFunctionalGroupsSequence[place], f"{group}Sequence")[0]
            setattr(item, name, value)

    return edit


def of_file(name: str, value: object) -> Edit:
    return lambda dataset: setattr(dataset, name, value)


def without_a_frame(dataset: FileDataset) -> None:
    """Lose the fifth frame with all that is said of it."""
    pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(12, -1)
    dataset.PixelData = np.delete(pixels, 4, axis=0).tobytes()
    del dataset.PerFrameFunctionalGroupsSequence[4]
    dataset.NumberOfFrames = 11


def in_both_groups(dataset: FileDataset) -> None:
    item = Dataset()
    item.PixelSpacing = ["0.5", "0.5"]
    dataset.PerFrameFunctionalGroupsSequence[3].PixelMeasuresSequence = [item]


HALF = tuple(range(6, 12))
REFUSED: dict[str, tuple[Edit, str, str]] = {
    "a_frame_is_missing": (without_a_frame, "missing_slices", "5 mm after"),
    "a_frame_twice": (
        in_frame("PlanePosition", "ImagePositionPatient", ["-40", "-50", "65"], 5),
        "duplicate_slices",
        "frame 3 of ct and frame 6 of ct",
    ),
    "two_stacks": (in_frame("FrameContent", "StackID", "2", *HALF), "mixed_series", "2 stacks"),
    "two_times": (
        in_frame("FrameContent", "TemporalPositionIndex", 2, *HALF),
        "mixed_series",
        "2 points in time",
    ),
    "a_turned_frame": (
        in_frame("PlaneOrientation", "ImageOrientationPatient", [0, 1, 0, 1, 0, 0], 4),
        "mixed_series",
        "directions (frame 5 of ct)",
    ),
    "other_pixels": (
        in_frame("PixelMeasures", "PixelSpacing", ["0.9", "0.9"], 4),
        "mixed_series",
        "spacings",
    ),
    "a_derived_frame": (
        in_frame("CTImageFrameType", "FrameType", ["DERIVED", "PRIMARY", "VOLUME", "MAX"], 4),
        "mixed_series",
        "2 types of frames",
    ),
    "no_position": (
        in_frame("PlanePosition", "ImagePositionPatient", None, 4),
        "dicom_header",
        "ImagePosition",
    ),
    "no_slope": (
        in_frame("PixelValueTransformation", "RescaleSlope", None, 4),
        "dicom_header",
        "RescaleSlope",
    ),
    "no_hounsfield": (
        in_frame("PixelValueTransformation", "RescaleType", "ED", 4),
        "not_hounsfield",
        "ED",
    ),
    "fewer_descriptions": (
        lambda dataset: dataset.PerFrameFunctionalGroupsSequence.pop(),
        "dicom_header",
        "11 frames of 12",
    ),
    "no_descriptions": (
        lambda dataset: delattr(dataset, "PerFrameFunctionalGroupsSequence"),
        "dicom_header",
        "0 frames of 12",
    ),
    "more_frames_than_pixels": (of_file("NumberOfFrames", 13), "dicom_header", "12 frames of 13"),
    "pixels_cut": (
        lambda dataset: setattr(dataset, "PixelData", dataset.PixelData[:-480]),
        "size_mismatch",
        "bytes of pixels",
    ),
    "more_rows": (of_file("Rows", 25), "size_mismatch", "bytes of pixels"),
    "eight_bits": (of_file("BitsAllocated", 8), "voxel_type", "of 8 bits"),
    "colours": (of_file("SamplesPerPixel", 3), "voxel_type", "3 values"),
    "not_ct": (of_file("Modality", "MR"), "no_ct_series", "(MR)"),
    "another_class": (
        of_file("SOPClassUID", UID("1.2.840.10008.5.1.4.1.1.2")),
        "no_ct_series",
        "12 frames whose places are not stated",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_frames_that_would_have_to_be_guessed_at_are_refused(
    folder: Path, ct: Volume, fault: str
) -> None:
    edit, reason, words = REFUSED[fault]
    write_enhanced(folder / "ct", ct, shared=[], edit=edit)
    error = refusal(folder)
    assert (error.reason, words in error.fact) == (reason, True), error


def test_a_place_that_is_said_twice_is_refused(folder: Path, ct: Volume) -> None:
    write_enhanced(folder / "ct", ct, edit=in_both_groups)
    assert "2 of PixelMeasuresSequence" in refusal(folder).fact


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.97])
def test_a_cut_file_is_refused(folder: Path, ct: Volume, syntax: str, share: float) -> None:
    write_enhanced(folder / "ct", ct, syntax=syntax)
    payload = (folder / "ct").read_bytes()
    (folder / "ct").write_bytes(payload[: int(share * len(payload))])
    refusal(folder)


@pytest.mark.parametrize("table", [[0] * 12, [0, 20, *range(40, 50)], range(0, 24, 2)])
def test_a_table_of_offsets_that_does_not_fit_is_refused(
    folder: Path, ct: Volume, table: Any
) -> None:
    def wrong(dataset: FileDataset) -> None:
        dataset.PixelData = (
            dataset.PixelData[:8] + np.array(table, "<u4").tobytes() + dataset.PixelData[8 + 48 :]
        )

    write_enhanced(folder / "ct", ct, syntax="rle", edit=wrong)
    assert refusal(folder).reason == "size_mismatch"


def test_fewer_streams_than_frames_are_refused(folder: Path, ct: Volume) -> None:
    def fewer(dataset: FileDataset) -> None:
        frames = list(generate_frames(dataset.PixelData, number_of_frames=12))
        dataset.PixelData = encapsulate(frames[:-1], has_bot=False)
        dataset["PixelData"].is_undefined_length = True

    write_enhanced(folder / "ct", ct, syntax="jpeg_2000", edit=fewer)
    assert refusal(folder).reason == "size_mismatch"


@pytest.mark.slow
def test_no_byte_of_a_header_makes_the_reader_fail_otherwise_than_by_refusing(
    folder: Path, ct: Volume
) -> None:
    write_enhanced(folder / "ct", ct)
    payload = (folder / "ct").read_bytes()
    generator = np.random.default_rng(8)
    outcomes = set()
    for place in generator.integers(0, len(payload) - ct.array.nbytes, 200):
        damaged = bytearray(payload)
        damaged[place] = generator.integers(256)
        (folder / "ct").write_bytes(damaged)
        try:
            read_volume(folder)
            outcomes.add("read")
        except ReadError as error:
            outcomes.add(error.reason)
    assert {"read", "dicom_header"} <= outcomes


@pytest.mark.slow
def test_the_real_series_is_the_same_as_enhanced_ct(folder: Path, real_data: Path) -> None:
    single = read_volume(real_data / "ct/dicom_series")
    first = dcmread(sorted((real_data / "ct/dicom_series").iterdir())[0], stop_before_pixels=True)
    assert first.SOPClassUID != LEGACY_CONVERTED
    write_enhanced(folder / "ct", single, order=range(len(single.array) - 1, -1, -1))
    same(read_volume(folder), single)
