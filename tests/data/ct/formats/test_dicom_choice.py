"""Of several series in a folder the chest series is read, or the folder is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import FileDataset

from benchmarks.dicom_series import Edit, write_series
from tests.data.ct.formats.conftest import tagged
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.origin import CtOrigin
from uvlm.data.ct.volume import AmbiguousCt, ReadError, Volume

Draw = Callable[..., npt.NDArray[np.int16]]
AFFINE = np.array([[0.0, 0, 8, -40], [0, 8, 0, -50], [5, 0, 0, 60], [0, 0, 0, 1]])


@pytest.fixture
def ct(chest: Draw) -> Volume:
    """Sixteen axial slices over 80 mm: series 3 of every folder here."""
    return Volume(np.maximum(chest(16, 12, 10), -1024), AFFINE)


def at_places(count: int) -> Edit:
    """Take the images at `count` places, one after the other, again and again."""

    def edit(dataset: FileDataset, number: int) -> bool:
        dataset.ImagePositionPatient = ["-40", "-50", str(60 + 5 * (number % count))]
        return True

    return edit


def as_seen(volume: Volume, num_slices: int, mm: float) -> Volume:
    """Take more or fewer slices at another distance."""
    array = np.resize(volume.array, (num_slices, *volume.array.shape[1:]))
    return Volume(array, volume.affine * [mm / 5, 1, 1, 1])


def read(folder: Path) -> tuple[Volume, CtOrigin]:
    volume = read_volume(folder)
    assert volume.origin
    return volume, volume.origin


# What lies beside the chest series: slices, mm between them, what is edited, why it is left out.
LOSERS: dict[str, tuple[int, float, Edit | None, str]] = {
    "bolus_tracking": (40, 5, at_places(1), "40 images of 1 place"),
    "test_bolus_at_two_places": (40, 5, at_places(2), "40 images of 2 places"),
    "perfusion": (60, 5, at_places(10), "60 images of 10 places"),
    "a_few_slices": (7, 5, None, "fewer than 8 slices"),
    "thick": (8, 10, None, "fewer slices"),
    "slab_of_thin_slices": (64, 0.625, None, "shows only 40 of 80 mm"),
    "derived": (32, 2.5, tagged(ImageType=["DERIVED", "SECONDARY"]), "derived from other images"),
    "unknown_origin": (32, 2.5, tagged(ImageType=None), "derived from other images"),
    "mip_called_original": (
        *(32, 2.5),
        tagged(ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "MIP"]),
        "tagged as mip",
    ),
    "mip_by_its_description": (32, 2.5, tagged(SeriesDescription="Thx_MIP 8"), "tagged as mip"),
    "scout_called_axial": (32, 2.5, tagged(SeriesDescription="Scout"), "tagged as scout"),
    "screens_without_places": (32, 5, tagged(ImagePositionPatient=None), "no slices of a CT"),
    "coloured_screens": (32, 5, tagged(SamplesPerPixel=3), "no slices of a CT"),
    "head": (
        *(32, 5),
        tagged(BodyPartExamined="HEAD", SeriesDescription=""),
        "tagged as another part of the body (head)",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LOSERS)
def test_what_is_no_chest_series_never_wins_over_one(tmp_path: Path, ct: Volume, kind: str) -> None:
    num_slices, mm, edit, reason = LOSERS[kind]
    write_series(tmp_path / "a", as_seen(ct, num_slices, mm), series="2", edit=edit)
    write_series(tmp_path / "b", ct, series="3")
    volume, origin = read(tmp_path)
    np.testing.assert_array_equal(volume.array, ct.array)
    assert origin.series_number == "3"
    assert [(p.what, len(p.paths), p.reason) for p in origin.left_out] == [
        ("series 2", num_slices, reason)
    ]


def test_coronal_slices_never_win_over_axial_ones(tmp_path: Path, ct: Volume) -> None:
    coronal = Volume(as_seen(ct, 40, 2.5).array, ct.affine[:, [1, 0, 2, 3]])
    write_series(tmp_path, coronal, series="2")
    write_series(tmp_path, ct, series="3")
    assert [part.reason for part in read(tmp_path)[1].left_out] == ["not axial"]


def test_a_narrow_field_of_view_never_wins_over_the_whole_chest(tmp_path: Path, ct: Volume) -> None:
    heart = Volume(as_seen(ct, 32, 2.5).array, ct.affine * [0.5, 0.5, 0.5, 1])
    write_series(tmp_path, heart, series="2")
    write_series(tmp_path, ct, series="3")
    assert [part.reason for part in read(tmp_path)[1].left_out] == ["shows only 48 of 96 mm"]


def test_thin_slices_of_the_lung_kernel_win_over_thick_soft_ones(
    tmp_path: Path, ct: Volume
) -> None:
    write_series(tmp_path, as_seen(ct, 27, 3), series="2", edit=tagged(ConvolutionKernel="B30f"))
    thin = as_seen(ct, 80, 1)
    write_series(tmp_path, thin, series="3", edit=tagged(ConvolutionKernel="B70f"))
    volume, origin = read(tmp_path)
    assert volume.array.shape[0] == origin.slices == 80
    assert volume.spacing[0] == pytest.approx(1)


@pytest.mark.parametrize(
    "tags",
    [
        {"SeriesDescription": "Low Dose CT 1.0"},
        {"SeriesDescription": "CT post bolus 1.0"},
        {"SeriesDescription": "Thorax 1.0", "BodyPartExamined": "ABDOMEN"},
        {"SeriesDescription": "Chest Abdomen Pelvis"},
        {"SeriesDescription": "Legacy handling"},
    ],
)
def test_words_that_a_chest_series_may_have_do_not_count_against_it(
    tmp_path: Path, ct: Volume, tags: dict[str, str]
) -> None:
    write_series(tmp_path, ct, series="3", edit=tagged(**tags))
    write_series(tmp_path, as_seen(ct, 8, 10), series="2", edit=tagged(BodyPartExamined="CHEST"))
    assert read(tmp_path)[1].series_number == "3"


def test_a_derived_series_is_read_if_nothing_better_is_there(tmp_path: Path, ct: Volume) -> None:
    write_series(tmp_path, ct, series="2", edit=tagged(ImageType=["DERIVED", "SECONDARY"]))
    write_series(tmp_path, as_seen(ct, 20, 5), series="3", edit=at_places(1))
    np.testing.assert_array_equal(read(tmp_path)[0].array, ct.array)


def test_a_chest_series_with_a_gap_is_refused_and_not_replaced(tmp_path: Path, ct: Volume) -> None:
    write_series(tmp_path, as_seen(ct, 8, 10), series="2")
    write_series(tmp_path, ct, series="3", edit=lambda _, number: number != 5)
    with pytest.raises(ReadError, match="10 mm after"):
        read_volume(tmp_path)


AMBIGUOUS: dict[str, tuple[int, Edit, str, str]] = {
    "equal": (16, tagged(), "several_series", "2 equally good series"),
    "two_patients": (8, tagged(PatientID="Jane Doe"), "several_patients", "CTs of 2 patients"),
    "two_patients_by_name": (
        8,
        tagged(PatientID="", PatientName="Doe^Jane"),
        "several_patients",
        "CTs of 2 patients",
    ),
    "a_bolus_of_another_patient": (
        20,
        lambda d, n: at_places(1)(d, n) and tagged(PatientID="Jane Doe")(d, n),
        "several_patients",
        "CTs of 2 patients",
    ),
    "two_examinations": (
        8,
        tagged(StudyDate="20240102", StudyInstanceUID="2.25.99"),
        "several_examinations",
        "CTs of 2 examinations",
    ),
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_a_folder_of_two_cts_is_refused_and_both_are_named(
    tmp_path: Path, ct: Volume, kind: str
) -> None:
    num_slices, edit, reason, fact = AMBIGUOUS[kind]
    described = tagged(StudyDate="20230102", SeriesDescription="for Dr Roe")
    write_series(tmp_path, as_seen(ct, num_slices, 80 / num_slices), series="2", edit=edit)
    write_series(tmp_path, ct, series="3", edit=described)
    with pytest.raises(AmbiguousCt) as caught:
        read_volume(tmp_path)
    error = caught.value
    assert (error.reason, fact in error.fact, error.fact.count("id ")) == (reason, True, 2)
    for private in ("Doe", "Roe", "phantom", "2.25", "2024"):
        assert private not in error.fact
    real = {"several_series": "2.25.3", "several_patients": "phantom"}.get(reason, "2.25.99")
    assert real in error.named


def test_many_slices_more_or_less_are_a_choice_and_one_is_none(tmp_path: Path, ct: Volume) -> None:
    write_series(tmp_path / "a", as_seen(ct, 40, 2), series="2")
    write_series(tmp_path / "a", as_seen(ct, 37, 2), series="3")
    assert read(tmp_path / "a")[1].slices == 40
    write_series(tmp_path / "b", as_seen(ct, 40, 2), series="2")
    write_series(tmp_path / "b", as_seen(ct, 39, 2), series="3")
    with pytest.raises(AmbiguousCt):
        read_volume(tmp_path / "b")


@pytest.mark.parametrize(
    ("tags", "facts"),
    [
        ({}, ()),
        ({"ContrastBolusAgent": "Ultravist for J. Doe"}, ("contrast agent given",)),
        ({"ContrastBolusAgent": "NONE"}, ("no contrast agent",)),
        ({"SeriesDescription": "Thorax_venous 1.0"}, ("phase venous (SeriesDescription)",)),
        ({"SeriesDescription": "CTPA 1.0"}, ("phase pulmonary arterial (SeriesDescription)",)),
        (
            {"ContrastBolusStartTime": "235950", "AcquisitionTime": "000055.25"},
            ("65 s after the injection began",),
        ),
        (
            {"ContrastBolusStartTime": "101500", "AcquisitionDateTime": "20240102101600"},
            ("60 s after the injection began",),
        ),
        ({"ContrastBolusStartTime": "101500", "AcquisitionTime": "170000"}, ()),
    ],
)
def test_contrast_is_stated_as_far_as_it_is_tagged(
    tmp_path: Path, ct: Volume, tags: dict[str, str], facts: tuple[str, ...]
) -> None:
    write_series(tmp_path, ct, edit=tagged(**tags))
    assert read(tmp_path)[1].contrast == facts
