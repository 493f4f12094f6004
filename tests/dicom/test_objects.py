"""The objects of a draft: legal, of the CT's study, read back to the same text and volumes."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.sr.codedict import codes

from benchmarks.dicom_enhanced import write_enhanced
from benchmarks.dicom_series import write_series
from tests.dicom.conftest import (
    HEADERS,
    NAMES,
    SENTENCES,
    body,
    draft_of,
    lps,
    masks_of,
    problems,
    tagged,
    untouched,
    written,
)
from uvlm.data.ct.io import read_label_map, read_volume, write_volume
from uvlm.data.ct.volume import LabelMap, axis_order
from uvlm.data.label_scheme import scheme
from uvlm.dicom.codes import concept_of
from uvlm.dicom.objects import Content, write_objects
from uvlm.dicom.place import remove_objects
from uvlm.errors import DataError

Made = Callable[..., dict[str, Any]]
VOXEL_ML = 2.5 * 0.8 * 0.7 / 1000


def texts(items: Any, name: str) -> list[str]:
    """Texts of one concept name anywhere below, as pydicom alone reads them."""
    found = []
    for item in items:
        if item.get("ConceptNameCodeSequence") and item.ValueType == "TEXT":
            found += [item.TextValue] * (item.ConceptNameCodeSequence[0].CodeMeaning == name)
        found += texts(item.get("ContentSequence", ()), name)
    return found


@pytest.mark.slow
def test_every_object_is_legal_dicom_of_the_same_study_in_a_new_series(
    objects: dict[str, Any], usual: Path
) -> None:
    assert set(objects) == {"masks", "report", "plane_01", "plane_02", "plane_03", "pdf"}
    for name, dataset in objects.items():
        assert problems(usual / f"{name}.dcm") == [], name
        for tag in ("StudyInstanceUID", "PatientID", "PatientName", "AccessionNumber", "StudyDate"):
            assert str(dataset[tag].value) == HEADERS[tag], (name, tag)
        assert "not reviewed" in dataset.SeriesDescription
    series = [str(dataset.SeriesInstanceUID) for dataset in objects.values()]
    assert len(set(series)) == 4
    assert "2.25.1" not in series
    assert len({str(d.SOPInstanceUID) for d in objects.values()}) == len(objects)


@pytest.mark.slow
def test_the_report_is_unverified_and_partial_and_says_so(objects: dict[str, Any]) -> None:
    report = objects["report"]
    assert (report.CompletionFlag, report.VerificationFlag) == ("PARTIAL", "UNVERIFIED")
    assert report.PreliminaryFlag == "PRELIMINARY"
    assert objects["pdf"].VerificationFlag == "UNVERIFIED"
    assert objects["masks"].ContentQualification == "RESEARCH"
    comments = texts(report.ContentSequence, "Comment")
    assert comments[0] == "research draft, not reviewed, not a medical device"
    assert {"A machine wrote this.", "Unlike training."} <= set(comments)


def test_the_text_is_read_back_sentence_by_sentence_with_what_disagrees(
    objects: dict[str, Any],
) -> None:
    report = objects["report"]
    assert texts(report.ContentSequence, "Finding") == [SENTENCES[0]["text"], "Lung nodule"]
    assert texts(report.ContentSequence, "Impression") == [SENTENCES[1]["text"]]
    comments = texts(report.ContentSequence, "Comment")
    assert "contradicted: masks show none" in comments
    assert any("earlier examination" in comment for comment in comments)


def test_highdicom_reads_a_volume_for_every_segment_that_is_what_was_counted(
    objects: dict[str, Any], usual: Path
) -> None:
    report = hd.sr.srread(usual / "report.dcm")
    assert isinstance(report, hd.sr.ComprehensiveSR)
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    content = report.content
    assert isinstance(content, hd.sr.MeasurementReport)
    groups = content.get_volumetric_roi_measurement_groups()
    masks = objects["masks"]
    measured = {}
    for group in groups:
        (volume,) = group.get_measurements(name=codes.SCT.Volume)
        assert volume.unit.value == "ml"
        segment = group.referenced_segment
        assert segment is not None
        assert segment.referenced_sop_instance_uid == masks.SOPInstanceUID
        measured[group.tracking_identifier] = float(volume.value)
    ids = masks_of(body())
    liver, fluid = NAMES.index("liver"), NAMES.index("pleural_effusion_or_thickening")
    expected = {
        "Liver": (ids == liver).sum(),
        "Pleural effusion or thickening": (ids == fluid).sum(),
        "Nodule or mass 1 of 2": 12,
        "Nodule or mass 2 of 2": 3,
    }
    assert measured == pytest.approx({k: v * VOXEL_ML for k, v in expected.items()}, abs=6e-4)
    device = content.get_observer_contexts(observer_type=codes.DCM.Device)
    assert [one.observer_type.meaning for one in device] == ["Device"]


def test_the_pdf_is_one_and_holds_every_word(objects: dict[str, Any], tmp_path: Path) -> None:
    stored = objects["pdf"]
    pdf = stored.EncapsulatedDocument[: stored.EncapsulatedDocumentLength]
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    if shutil.which("gs") is None:
        pytest.skip("ghostscript, which reads the text of the PDF, is not installed")
    (tmp_path / "a.pdf").write_bytes(pdf)
    command = ["gs", "-q", "-dNOPAUSE", "-dBATCH", "-sDEVICE=txtwrite", "-sOutputFile=-", "a.pdf"]
    told = subprocess.run(command, capture_output=True, cwd=tmp_path, check=True)
    words = " ".join(told.stdout.decode("utf-8").split())
    assert "RESEARCH DRAFT, NOT REVIEWED, NOT A MEDICAL DEVICE" in words
    for sentence in SENTENCES:
        for part in str(sentence["text"]).split("≥"):  # which ghostscript takes for a letter
            assert part.strip() in words
    assert "Pleural effusion" in words  # no two letters are joined to one
    assert "Muster" not in words
    assert "4711" not in words


def test_a_key_plane_is_a_picture_with_the_warning_burnt_in(objects: dict[str, Any]) -> None:
    plane = objects["plane_01"]
    pixels = plane.pixel_array
    assert pixels.shape == (plane.Rows, plane.Columns, 3)
    strip = pixels[-30:].reshape(-1, 3).astype(int)
    red = (strip[:, 0] > 150) & (strip[:, 1] < 60)
    assert red.sum() > 300  # the warning is written in red
    assert plane.BurnedInAnnotation == "NO"


@pytest.mark.slow
@pytest.mark.usefixtures("blank_pictures")
def test_the_same_ct_and_model_give_the_same_objects_and_another_draft_new_ones(
    made: Made,
) -> None:
    def uids(objects: dict[str, Any], name: str) -> dict[str, str]:
        return {kind: str(dataset[name].value) for kind, dataset in objects.items()}

    elsewhere = draft_of().provenance.model_copy(update={"seconds": {"read": 9.0}, "request": "z"})
    moved = {"case_id": "other", "provenance": elsewhere.model_dump(mode="json")}
    first, again = made(), made(**moved)
    assert uids(first, "SOPInstanceUID") == uids(again, "SOPInstanceUID")
    assert first["pdf"].EncapsulatedDocument == again["pdf"].EncapsulatedDocument
    other = made(probabilities={"Lung nodule": 0.1})
    assert uids(first, "SeriesInstanceUID") == uids(other, "SeriesInstanceUID")
    assert not set(uids(first, "SOPInstanceUID").values()) & set(
        uids(other, "SOPInstanceUID").values()
    )
    model = draft_of().provenance.model_copy(update={"model_sha256": "e" * 64})
    newer = made(provenance=model.model_dump(mode="json"))
    assert not set(uids(first, "SeriesInstanceUID").values()) & set(
        uids(newer, "SeriesInstanceUID").values()
    )


@pytest.mark.usefixtures("blank_pictures")
def test_a_withheld_report_has_its_reason_and_the_masks(made: Made, tmp_path: Path) -> None:
    nothing = {"report": None, "findings": None, "impression": None, "sentences": ()}
    objects = made(**nothing, probabilities={}, withheld="the CT shows another body part")
    comments = texts(objects["report"].ContentSequence, "Comment")
    assert "The report was withheld: the CT shows another body part" in comments
    assert texts(objects["report"].ContentSequence, "Finding") == []
    assert "masks" in objects
    assert problems(tmp_path / "dicom" / "report.dcm") == []


@pytest.mark.slow
@pytest.mark.parametrize("empty", [True, False])
def test_without_masks_there_is_no_seg_but_the_rest_and_a_note(tmp_path: Path, empty: bool) -> None:
    write_series(tmp_path / "series", lps(body()), edit=tagged())
    volume = read_volume(tmp_path / "series")
    masks = LabelMap(np.zeros(volume.array.shape, np.uint8), volume.affine) if empty else None
    made = write_objects(Content(draft_of(), volume, masks, NAMES), tmp_path / "dicom")
    assert [file.name for file in made.files] == ["report.dcm", "pdf.dcm"]
    assert "no masks" in made.notes[-1]
    assert [problems(file) for file in made.files] == [[], []]


def test_a_ct_without_dicom_headers_is_told_what_cannot_be_made_and_why(tmp_path: Path) -> None:
    write_volume(tmp_path / "ct.nii.gz", lps(body()))
    with pytest.raises(DataError) as caught:
        written(tmp_path / "ct.nii.gz", tmp_path / "dicom")
    assert "structured report" in caught.value.fact
    assert "patient and study" in caught.value.fact
    assert "DICOM folder" in caught.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nii.gz"]


@pytest.mark.slow
@pytest.mark.usefixtures("blank_pictures")
@pytest.mark.parametrize("named", ["ct", "ct/image"])
def test_an_image_of_many_frames_gets_all_objects(tmp_path: Path, named: str) -> None:
    def edit(dataset: Any) -> None:
        tagged()(dataset, 0)

    write_enhanced(tmp_path / "ct" / "image", lps(body()), edit=edit)
    made = written(tmp_path / named, tmp_path / "dicom")
    assert [problems(file) for file in made.files] == [[]] * 4


@pytest.mark.slow
@pytest.mark.usefixtures("blank_pictures")
def test_older_objects_are_replaced_other_files_stay_and_an_error_changes_nothing(
    made: Made, tmp_path: Path
) -> None:
    folder = tmp_path / "dicom"
    made()
    (folder / "mine.dcm").write_bytes(b"kept")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(DataError):
        made(untouched(PatientID="x" * 65))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (folder / "plane_07.dcm").write_bytes(b"of an older draft")
    made(sentences=())
    assert {path.name for path in folder.iterdir()} == before.keys()
    remove_objects(folder)
    assert [path.name for path in folder.iterdir()] == ["mine.dcm"]


@pytest.mark.parametrize("dataset", ["chest", "abdomen"])
def test_every_class_has_a_concept_of_snomed_ct_in_pydicoms_dictionary(dataset: Any) -> None:
    for name in ("coarse", "coarse_lesion", "fine_lesion"):
        classes = scheme(dataset, name)
        for number, class_name in enumerate(classes.names[1:], start=1):
            concept = concept_of(class_name)
            assert concept.kind.scheme_designator == "SCT", class_name
            assert concept.is_lesion == (number in classes.lesion_ids), class_name
            side = re.search(r"_(left|right)$", class_name)
            if side and class_name != "lung_middle_lobe_right":  # whose concept has the side
                assert concept.side is not None
                assert concept.side.meaning.lower() == side[1]


def test_a_class_of_another_scheme_has_a_code_of_ours(tmp_path: Path) -> None:
    concept = concept_of("a very long class name " * 9)
    assert concept.kind.scheme_designator == "99UVLM"
    assert len(concept.kind.value) <= 16
    assert len(concept.kind.meaning) <= 64


def test_dicom_validator_finds_no_error(usual: Path) -> None:
    """It downloads its tables of the standard, so it runs only where they are already."""
    program, tables = shutil.which("validate_iods"), Path.home() / "dicom-validator"
    if program is None or not any(tables.glob("*/json/iod_info.json")):
        pytest.skip(f"dicom-validator's tables of the standard are not in {tables}")
    files = [str(file) for file in sorted(usual.iterdir())]
    command = [program, "--standard-path", str(tables), "--edition", "local", *files]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.slow
def test_the_real_series_gets_legal_objects_with_the_masks_voxel_by_voxel(
    real_data: Path, tmp_path: Path
) -> None:
    ct = read_volume(real_data / "ct" / "dicom_series")
    published = read_label_map(real_data / "ct" / "dicom_series_totalsegmentator.nii.gz")
    classes = scheme("chest", "fine_lesion")
    turned = axis_order(published.affine).forward(classes.fold_total(published.array))
    masks = LabelMap(axis_order(ct.affine).backward(turned), ct.affine)
    made = write_objects(Content(draft_of(), ct, masks, classes.names), tmp_path / "dicom")
    assert [problems(file) for file in made.files] == [[]] * len(made.files)
    stored = dcmread(made.files[0])
    ids = {
        s.SegmentNumber: _class_of(s.SegmentLabel, classes.names) for s in stored.SegmentSequence
    }
    painted = np.zeros_like(masks.array)
    frames = zip(stored.PerFrameFunctionalGroupsSequence, stored.pixel_array, strict=True)
    for groups, frame in frames:
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        place = [*groups.PlanePositionSequence[0].ImagePositionPatient, 1.0]
        z = round(float((np.linalg.inv(ct.affine) @ np.array(place, float))[0]))
        assert not painted[z][frame > 0].any()
        painted[z][frame > 0] = ids[number]
    np.testing.assert_array_equal(painted, masks.array)


def _class_of(label: str, names: Sequence[str]) -> int:
    return names.index(label.lower().replace(" ", "_"))
