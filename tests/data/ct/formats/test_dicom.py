"""DICOM folders: every syntax, one series by rule, and studies that must not be guessed at."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from pydicom import dcmread, dcmwrite
from pydicom.dataset import FileDataset
from pydicom.uid import UID

from benchmarks.dicom_series import SYNTAXES, Edit, write_series
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.volume import ReadError, Volume

Draw = Callable[..., npt.NDArray[np.int16]]


def by_simpleitk(folder: Path) -> Any:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def refusal(folder: Path) -> ReadError:
    with pytest.raises(ReadError) as caught:
        read_volume(folder)
    assert caught.value.remedy
    return caught.value


def change(name: str, value: object, *numbers: int) -> Edit:
    """Set an attribute on some slices, or on all."""

    def edit(dataset: FileDataset, number: int) -> bool:
        if not numbers or number in numbers:
            setattr(dataset, name, value)
        return True

    return edit


def move(numbers: tuple[int, ...], by: tuple[float, float, float]) -> Edit:
    """Shift some slices by millimetres."""

    def edit(dataset: FileDataset, number: int) -> bool:
        if number in numbers:
            place = np.add(np.array(dataset.ImagePositionPatient, float), by)
            dataset.ImagePositionPatient = [f"{v:g}" for v in place]
        return True

    return edit


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_series_of_any_syntax_comes_back_as_it_was(folder: Path, ct: Volume, syntax: str) -> None:
    write_series(folder, ct, syntax=syntax)
    read = read_volume(folder)
    assert read.array.dtype == np.int16
    np.testing.assert_array_equal(read.array, ct.array)
    np.testing.assert_allclose(read.affine, ct.affine, atol=1e-6)
    assert read.orientation() == "LPS"
    assert read.origin
    assert (read.origin.series_number, read.origin.slices) == ("1", 12)


@pytest.mark.parametrize("syntax", ["explicit", "jpeg_lossless", "jpeg_2000"])
def test_simpleitk_reads_the_same_series(folder: Path, ct: Volume, syntax: str) -> None:
    write_series(folder, ct, syntax=syntax)
    image, read = by_simpleitk(folder), read_volume(folder)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), read.array)
    for z, y, x in [(0, 0, 0), (11, 0, 0), (0, 23, 0), (11, 23, 19)]:
        point = (read.affine @ [z, y, x, 1])[:3]
        np.testing.assert_allclose(point, image.TransformIndexToPhysicalPoint((x, y, z)), atol=1e-4)


def test_a_sagittal_series_has_its_own_axes(folder: Path, ct: Volume) -> None:
    affine = ct.affine[:, [2, 0, 1, 3]]
    write_series(folder, Volume(ct.array, affine))
    read = read_volume(folder)
    np.testing.assert_allclose(read.affine, affine, atol=1e-6)
    assert read.orientation() == "PSL"


def test_old_overlay_bits_are_dropped_and_signs_extended(folder: Path, ct: Volume) -> None:
    def twelve_bits(dataset: FileDataset, number: int) -> bool:
        stored = (ct.array[number].astype(np.int32) & 0x0FFF) | 0x5000
        dataset.PixelData = stored.astype("<u2").tobytes()
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 1
        dataset.RescaleIntercept = "0"
        return True

    write_series(folder, ct, edit=twelve_bits)
    np.testing.assert_array_equal(read_volume(folder).array, ct.array)


def test_every_slice_is_scaled_by_its_own_slope_and_intercept(folder: Path, ct: Volume) -> None:
    def doubled(dataset: FileDataset, number: int) -> bool:
        if number % 2:
            even = (ct.array[number].astype(np.int32) + 1024) // 2
            dataset.PixelData = even.astype("<u2").tobytes()
            dataset.RescaleSlope = "2"
        return True

    write_series(folder, ct, edit=doubled)
    read = read_volume(folder)
    np.testing.assert_array_equal(read.array[::2], ct.array[::2])
    np.testing.assert_array_equal(read.array[1::2], (ct.array[1::2] + 1024) // 2 * 2 - 1024)


def test_of_several_series_the_original_with_most_slices_is_read_and_the_rest_named(
    folder: Path, ct: Volume
) -> None:
    thick = Volume(ct.array[::2] + 5, ct.affine * [2, 1, 1, 1])
    write_series(folder / "a", thick, series="1")
    write_series(folder / "b", ct, series="3")
    derived = Volume(ct.array.repeat(2, axis=0).astype(np.int16), ct.affine * [0.5, 1, 1, 1])
    write_series(
        folder / "b",
        derived,
        series="2",
        edit=change("ImageType", ["DERIVED", "SECONDARY", "REFORMATTED"]),
    )
    scout = change("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_series(folder / "c", Volume(ct.array[:1], ct.affine), series="4", edit=scout)
    other = change("SOPClassUID", UID("1.2.840.10008.5.1.4.1.1.88.22"))
    write_series(folder / "c", Volume(ct.array[:1], ct.affine), series="5", edit=other)
    (folder / "readme.txt").write_text("exported")
    read = read_volume(folder)
    np.testing.assert_array_equal(read.array, ct.array)
    assert read.origin
    assert (read.origin.series_number, len(read.origin.paths)) == ("3", 12)
    assert sorted((len(part.paths), part.reason) for part in read.origin.left_out) == [
        (1, "no CT image"),
        (1, "no CT image"),
        (1, "no CT image"),
        (6, "fewer than 8 slices"),
        (24, "derived from other images"),
    ]


def test_a_series_without_uids_is_still_one_series(folder: Path, ct: Volume) -> None:
    write_series(folder, ct, edit=change("SeriesInstanceUID", ""))
    np.testing.assert_array_equal(read_volume(folder).array, ct.array)


REFUSED: dict[str, tuple[Edit, str, str]] = {
    "a_slice_is_missing": (lambda _, number: number != 5, "missing_slices", "5 mm after"),
    "two_slices_are_missing": (lambda _, n: n not in (3, 8), "missing_slices", "mm after"),
    "every_second_slice_is_missing": (
        change("SpacingBetweenSlices", "1.25"),
        "missing_slices",
        "states 1.25 mm",
    ),
    "a_slice_twice": (move((5,), (0, 0, -2.5)), "duplicate_slices", "places that are taken"),
    "a_slice_out_of_place": (move((5,), (0, 0, 1.2)), "missing_slices", "mm after"),
    "all_slices_in_one_place": (
        change("ImagePositionPatient", ["0", "0", "0"]),
        "duplicate_slices",
        "12 slices",
    ),
    "one_direction_turned": (
        change("ImageOrientationPatient", ["1", "0", "0", "0", "0.98", "0.199"], 4),
        "mixed_series",
        "directions",
    ),
    "another_pixel_spacing": (change("PixelSpacing", ["0.7", "0.7"], 4), "mixed_series", "spacing"),
    "another_patient": (change("PatientID", "other", 4), "mixed_series", "2 patients"),
    "another_frame": (change("FrameOfReferenceUID", "2.25.9", 4), "mixed_series", "2 frames"),
    "no_position": (change("ImagePositionPatient", None, 4), "dicom_header", "ImagePosition"),
    "position_of_two": (change("ImagePositionPatient", ["1", "2"], 4), "dicom_header", "3 numbers"),
    "no_slope": (change("RescaleSlope", None, 4), "dicom_header", "RescaleSlope"),
    "slope_of_zero": (change("RescaleSlope", "0"), "scaling", "by 0"),
    "not_hounsfield": (change("RescaleType", "OD"), "not_hounsfield", "OD"),
    "never_rescaled": (change("RescaleIntercept", "0"), "not_hounsfield", "no air"),
    "rescaled_twice": (change("RescaleIntercept", "-2048"), "not_hounsfield", "twice"),
    "colours": (change("SamplesPerPixel", 3), "voxel_type", "3 values"),
    "inverted": (
        change("PhotometricInterpretation", "MONOCHROME1"),
        "voxel_type",
        "MONOCHROME1",
    ),
    "eight_bits": (change("BitsAllocated", 8), "voxel_type", "of 8 bits"),
    "directions_too_long": (
        change("ImageOrientationPatient", ["1.1", "0", "0", "0", "1", "0"]),
        "geometry",
        "lengths",
    ),
    "no_spacing": (change("PixelSpacing", ["0", "0"]), "spacing", "voxel size"),
    "pixels_missing": (change("PixelData", b"\0" * 100, 4), "size_mismatch", "100 bytes"),
    "more_rows_than_pixels": (change("Rows", 25), "size_mismatch", "1000 bytes"),
    "multi_frame": (change("NumberOfFrames", "12"), "no_ct_series", "12 frames whose places"),
    "mr": (change("SOPClassUID", UID("1.2.840.10008.5.1.4.1.1.4")), "no_ct_series", "12 MR Image"),
    "localizers_only": (change("ImageType", ["LOCALIZER"]), "no_ct_series", "12 localizer"),
    "seven_slices": (lambda _, number: number < 7, "too_few_slices", "20 x 24 x 7"),
    "one_slice": (lambda _, number: number < 1, "single_slice", "single image"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_series_that_would_have_to_be_guessed_at_is_refused(
    folder: Path, ct: Volume, fault: str
) -> None:
    edit, reason, words = REFUSED[fault]
    write_series(folder, ct, edit=edit)
    error = refusal(folder)
    assert (error.reason, words in error.fact) == (reason, True), error


@pytest.mark.parametrize("stated", ["2.5", "5", "25", "-2.5", "-5", "-1.25", "0", "", None])
@pytest.mark.parametrize("thickness", ["1.25", "5", None])
def test_slices_that_lie_evenly_are_all_there_whatever_wider_step_a_tag_states(
    folder: Path, ct: Volume, stated: str | None, thickness: str | None
) -> None:
    def tagged(dataset: FileDataset, number: int) -> bool:
        dataset.SpacingBetweenSlices, dataset.SliceThickness = stated, thickness
        return True

    write_series(folder, ct, edit=tagged)
    read = read_volume(folder)
    np.testing.assert_array_equal(read.array, ct.array)
    np.testing.assert_allclose(read.affine, ct.affine, atol=1e-6)
    sorted(folder.iterdir())[5].unlink()
    assert refusal(folder).reason == "missing_slices"


def test_a_tilted_gantry_is_refused_with_its_angle(folder: Path, ct: Volume) -> None:
    affine = ct.affine.copy()
    affine[1, 0] = 2.5 * np.tan(np.radians(12))
    write_series(folder, Volume(ct.array, affine), edit=lambda d, n: place(d, affine, n))
    error = refusal(folder)
    assert error.reason == "gantry_tilt"
    assert "12.0 degrees" in error.fact


def place(dataset: FileDataset, affine: npt.NDArray[np.float64], number: int) -> bool:
    dataset.ImagePositionPatient = [f"{v:.6f}" for v in (affine @ [number, 0, 0, 1])[:3]]
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.PixelSpacing = ["0.8", "0.7"]
    return True


def test_oblique_slices_are_refused(folder: Path, ct: Volume) -> None:
    turn = np.eye(4)
    angle = np.radians(25)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    write_series(folder, Volume(ct.array, turn @ ct.affine))
    error = refusal(folder)
    assert (error.reason, "25 degrees" in error.fact) == ("oblique", True)


def test_a_copy_of_a_slice_under_another_name_is_a_duplicate(folder: Path, ct: Volume) -> None:
    write_series(folder, ct)
    first = sorted(folder.iterdir())[0]
    shutil.copy(first, folder / "copy")
    assert refusal(folder).reason == "duplicate_slices"


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.97])
def test_a_cut_slice_is_refused(folder: Path, ct: Volume, syntax: str, share: float) -> None:
    write_series(folder, ct, syntax=syntax)
    victim = sorted(folder.iterdir())[4]
    payload = victim.read_bytes()
    victim.write_bytes(payload[: int(share * len(payload))])
    error = refusal(folder)
    assert victim.name in f"{error.subject} {error.fact}"


def test_something_that_is_not_dicom_among_the_slices_is_refused(folder: Path, ct: Volume) -> None:
    write_series(folder, ct)
    (folder / "00000").write_bytes(b"not an image at all")
    error = refusal(folder)
    assert (error.reason, error.subject) == ("not_dicom", str(folder / "00000"))


def without_preamble(path: Path, *, meta: bool) -> bytes:
    """Drop the preamble, and the file's own header too if `meta` is false."""
    payload = path.read_bytes()
    if meta:
        return payload[132:]
    # The header begins with its length: tag, VR and length of 4 bytes, then the number itself.
    (length,) = struct.unpack_from("<I", payload, 140)
    return payload[144 + length :]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("syntax", "meta"),
    [("implicit", False), ("explicit", False), ("implicit", True), ("jpeg_lossless", True)],
)
def test_slices_without_preamble_are_read_when_whole_and_refused_when_cut(
    folder: Path, ct: Volume, syntax: str, meta: bool
) -> None:
    write_series(folder, ct, syntax=syntax)
    for path in folder.iterdir():
        path.write_bytes(without_preamble(path, meta=meta))
    read = read_volume(folder)
    np.testing.assert_array_equal(read.array, ct.array)
    np.testing.assert_allclose(read.affine, ct.affine, atol=1e-6)
    victim = sorted(folder.iterdir())[4]
    payload = victim.read_bytes()
    for length in range(1, len(payload), len(payload) // 25):
        victim.write_bytes(payload[:length])
        refusal(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"a note about this CT, long enough to be a file of its own" * 20,
        b"\x08\0\x05\0CS\x0a\0ISO_IR 100" + b"and no image at all " * 40,
        b"\x08\0\x16\0" + bytes(range(256)) * 4,
        b"\0" * 128 + b"DICX" + b"\x08\0\x05\0CS\x0a\0ISO_IR 100",
    ],
)
def test_what_only_begins_like_dicom_without_preamble_is_not_read(
    folder: Path, ct: Volume, content: bytes
) -> None:
    write_series(folder, ct)
    (folder / "00000").write_bytes(content)
    error = refusal(folder)
    assert error.subject == str(folder / "00000")
    assert error.reason in ("not_dicom", "dicom_header")


def test_a_syntax_that_cannot_be_decoded_is_named(folder: Path, ct: Volume) -> None:
    write_series(folder, ct, syntax="jpeg_2000")
    for path in folder.iterdir():
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.201")
        dcmwrite(path, dataset, enforce_file_format=True)
    error = refusal(folder)
    assert error.reason == "compressed_syntax"
    assert "High-Throughput JPEG 2000" in error.fact


def test_damaged_jpeg_is_refused_or_read_as_it_was_never_a_crash(folder: Path, ct: Volume) -> None:
    write_series(folder, ct, syntax="jpeg_lossless")
    victim = sorted(folder.iterdir())[4]
    payload = bytearray(victim.read_bytes())
    start = payload.rindex(b"\xff\xd8")
    payload[start + 2 : start + 12] = b"\0" * 10
    victim.write_bytes(payload)
    assert refusal(folder).reason == "damaged_jpeg"


@pytest.mark.slow
def test_no_byte_of_a_header_makes_the_reader_fail_otherwise_than_by_refusing(
    folder: Path, ct: Volume
) -> None:
    write_series(folder, ct)
    victim = sorted(folder.iterdir())[4]
    payload = victim.read_bytes()
    generator = np.random.default_rng(8)
    outcomes = set()
    for place in generator.integers(0, len(payload) - 2 * 24 * 20, 150):
        damaged = bytearray(payload)
        damaged[place] = generator.integers(256)
        victim.write_bytes(damaged)
        try:
            read_volume(folder)
            outcomes.add("read")
        except ReadError as error:
            outcomes.add(error.reason)
    assert {"read", "dicom_header"} <= outcomes


@pytest.mark.slow
def test_the_real_series_is_read_as_simpleitk_reads_it(real_data: Path) -> None:
    folder = real_data / "ct/dicom_series"
    read = read_volume(folder)
    image = by_simpleitk(folder)
    np.testing.assert_array_equal(read.array, sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(read.spacing[::-1], image.GetSpacing())
    np.testing.assert_allclose(read.affine[:3, 3], image.GetOrigin())
    assert (read.array.shape, read.orientation()) == ((20, 512, 512), "LPS")


@pytest.mark.slow
def test_the_labels_of_the_real_series_lie_on_its_grid(real_data: Path) -> None:
    from uvlm.data.ct.io import read_label_map
    from uvlm.data.ct.volume import to_canonical

    labels = read_label_map(real_data / "ct/dicom_series_totalsegmentator.nii.gz")
    read = read_volume(real_data / "ct/dicom_series")
    mapped = to_canonical(Volume(labels.array.astype(np.int16), labels.affine))
    np.testing.assert_allclose(mapped.affine, to_canonical(read).affine, atol=1e-3)
    liver = to_canonical(read).array[mapped.array == 5]
    assert 80 < np.median(liver) < 160
