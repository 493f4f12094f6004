"""Headers as hospitals send them: names in many scripts, missing and illegal values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import UID

from benchmarks.dicom_series import write_series
from tests.data.ct.formats.test_dicom import without_preamble
from tests.dicom.conftest import body, lps, problems, tagged, untouched, written
from uvlm.errors import DataError

pytestmark = pytest.mark.usefixtures("blank_pictures")
Made = Callable[..., dict[str, Any]]
JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 192", JAPANESE),
        (["", "ISO 2022 IR 87"], JAPANESE),
        ("ISO_IR 100", "Müller^Jürgen^^Dr."),
        ("ISO_IR 144", "\u041b\u044e\u043a\u0441^\u0411"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        (None, "Plain^Ascii"),
    ],
)
def test_a_name_in_any_script_comes_back_as_it_was(
    made: Made, tmp_path: Path, charset: Any, name: str
) -> None:
    for kind, dataset in made(
        tagged(SpecificCharacterSet=charset, PatientName=name, StudyDescription="Thorax")
    ).items():
        assert str(dataset.PatientName) == name
        assert dataset.SpecificCharacterSet == "ISO_IR 192"
        assert problems(tmp_path / "dicom" / f"{kind}.dcm") == []


def test_headers_without_what_de_identification_removes_still_give_legal_objects(
    made: Made, tmp_path: Path
) -> None:
    gone = dict.fromkeys(
        ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
         "AccessionNumber", "StudyID", "ReferringPhysicianName", "StudyDescription",
         "SpecificCharacterSet")
    )  # fmt: skip
    for kind, dataset in made(tagged(**gone)).items():
        assert dataset.PatientID in ("", None)
        assert problems(tmp_path / "dicom" / f"{kind}.dcm") == []


def test_a_study_without_uids_gets_some_that_stay_the_same_and_a_note(tmp_path: Path) -> None:
    edit = tagged(StudyInstanceUID="", SeriesInstanceUID="", FrameOfReferenceUID=None)
    write_series(tmp_path / "a", lps(body()), edit=edit)
    made = written(tmp_path / "a", tmp_path / "out")
    assert [note.split()[4].rstrip(":") for note in made.notes] == [
        "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
    ]  # fmt: skip
    first = {file.name: dcmread(file).StudyInstanceUID for file in made.files}
    assert len(set(first.values())) == 1
    assert [problems(file) for file in made.files] == [[]] * 4
    again = written(tmp_path / "a", tmp_path / "out")
    assert {file.name: dcmread(file).StudyInstanceUID for file in again.files} == first


def test_values_that_dicom_does_not_allow_are_left_empty_with_a_note(tmp_path: Path) -> None:
    wrong = {
        "PatientBirthDate": "31.01.1950", "PatientSex": "female", "StudyTime": "1 p.m.",
        "AccessionNumber": "A" * 40, "StudyDescription": "long " * 40,
    }  # fmt: skip
    write_series(tmp_path / "a", lps(body()), edit=untouched(**wrong))
    made = written(tmp_path / "a", tmp_path / "out")
    assert {note.split()[0] for note in made.notes} == wrong.keys()
    assert [problems(file) for file in made.files] == [[]] * 4
    assert dcmread(made.files[0]).PatientID == "MRN 4711"


@pytest.mark.parametrize(
    "tags",
    [{"PatientID": "x" * 65}, {"PatientID": ["a", "b"]}, {"PatientName": "x" * 70}],
)
def test_an_identity_that_cannot_be_kept_is_refused_rather_than_changed(
    tmp_path: Path, tags: dict[str, Any]
) -> None:
    write_series(tmp_path / "a", lps(body()), edit=untouched(**tags))
    with pytest.raises(DataError, match=f"has a {next(iter(tags))} that DICOM does not allow"):
        written(tmp_path / "a", tmp_path / "out")


def test_slices_that_share_a_uid_are_refused(tmp_path: Path) -> None:
    def edit(dataset: FileDataset, number: int) -> bool:
        tagged()(dataset, number)
        if number < 3:
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID("2.25.99")
        return True

    write_series(tmp_path / "a", lps(body()), edit=edit)
    with pytest.raises(DataError, match="2 slices whose SOPInstanceUID another slice has too"):
        written(tmp_path / "a", tmp_path / "out")


def test_uids_are_taken_from_the_files_own_header_where_the_dataset_has_none(
    tmp_path: Path,
) -> None:
    write_series(tmp_path / "a", lps(body()), edit=tagged(SOPInstanceUID="", SOPClassUID=""))
    made = written(tmp_path / "a", tmp_path / "out")
    (series,) = dcmread(made.files[0]).ReferencedSeriesSequence
    named = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    meta = {dcmread(f).file_meta.MediaStorageSOPInstanceUID for f in (tmp_path / "a").iterdir()}
    assert named == meta


def test_slices_without_preamble_and_header_of_the_file_get_their_objects_too(
    tmp_path: Path,
) -> None:
    write_series(tmp_path / "a", lps(body()), edit=tagged())
    for path in (tmp_path / "a").iterdir():
        path.write_bytes(without_preamble(path, meta=False))
    made = written(tmp_path / "a", tmp_path / "out")
    assert [problems(file) for file in made.files] == [[]] * 4
    assert made.notes == ()


@pytest.mark.slow
def test_no_private_tag_comment_or_other_name_is_copied(made: Made, tmp_path: Path) -> None:
    def edit(dataset: FileDataset, number: int) -> bool:
        tagged(
            OtherPatientIDs="SECRET1", PatientComments="SECRET2", InstitutionName="SECRET3",
            OperatorsName="SECRET4", PatientAddress="SECRET5", RequestingPhysician="SECRET6",
            ImageComments="SECRET7", SeriesDescription="SECRET8", StationName="SECRET9",
        )(dataset, number)  # fmt: skip
        block = dataset.private_block(0x0029, "VENDOR", create=True)
        block.add_new(0x10, "LO", "SECRET10")
        return True

    made(edit)
    for file in (tmp_path / "dicom").iterdir():
        assert b"SECRET" not in file.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["x" * 5000, "a\\b^c=d", "tab\there\r\nnext", "null\0 esc\x1b[31m", "‮rtl 🫁 \ud800"]
)
def test_any_generated_text_gives_legal_objects(made: Made, tmp_path: Path, text: str) -> None:
    sentence = {"text": text.encode("utf-8", "replace").decode(), "part": "findings"}
    made(sentences=(sentence,), notes=(sentence["text"],))
    for file in (tmp_path / "dicom").iterdir():
        assert problems(file) == []
