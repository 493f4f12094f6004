"""A person's own CTs and reports: copied, indexed, refused by name, and never touched."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from benchmarks.dicom_series import write_series
from tests.data.sets.own.folder import FLAGS
from uvlm.config import FolderConfig
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.volume import Volume
from uvlm.data.sets.own.dataset import OwnData
from uvlm.errors import DataError
from uvlm.evaluation.labeller import check_language_for, get_labeller
from uvlm.files import store_root
from uvlm.store import read_manifest, rows_by_case, verify
from uvlm.text.abnormalities import ABNORMALITIES

if TYPE_CHECKING:
    from tests.data.sets.own.folder import Own


def test_two_columns_and_a_folder_are_enough_and_nothing_of_the_persons_changes(own: Own) -> None:
    before = own.state()
    own.fetch()
    cases, refused = own.index()
    assert refused == {}
    assert own.state() == before
    assert sorted(cases) == [f"p{n}" for n in range(8)]
    assert sorted(case.split for case in cases.values()).count("test") == 2
    for number, case in enumerate(cases.values()):
        copied = read_volume(store_root() / case.volume)
        np.testing.assert_array_equal(copied.array, own.volume.array + number)
        assert not (store_root() / case.volume).is_symlink()
        assert case.patient_id == case.scan_id == case.case_id
    assert verify(store_root(), [own.manifest]).problems == ()
    assert str(own.folder).encode() not in own.manifest.read_bytes()


def test_reports_without_labels_are_labelled_and_never_taken_for_normal(own: Own) -> None:
    own.fetch()
    cases, _ = own.index()
    assert own.labelled[1] == "Findings: A nodule."
    assert len(own.labelled) == 8
    assert cases["p1"].abnormalities == (1,) * 18
    assert cases["p2"].abnormalities == (0,) * 18
    (labels,) = [row for row in read_manifest(own.manifest) if row.case == "own/labels.csv"]
    assert labels.source == "labeller"


def test_a_report_in_another_language_stops_before_anything_is_copied(own: Own) -> None:
    rows = [[f"p{n}", "Lungs are clear."] for n in range(8)]
    rows[5][1] = "Kein Pleuraerguss. Rundherd im Oberlappen."
    own.table(["id", "report"], rows)
    labeller = get_labeller("rules")

    def label(texts: Sequence[str]) -> Any:
        check_language_for(labeller, texts)
        return labeller.label(texts)

    with pytest.raises(DataError, match=r"reports.csv: row 6 \(line 7\): 0 of 5 words.*18 columns"):
        OwnData(FolderConfig(**own.settings), 0).fetch(own.manifest, label)
    assert not own.manifest.exists()
    assert not store_root().exists()


def test_what_the_download_left_out_and_how_english_it_is_are_said(own: Own) -> None:
    rows = [[f"p{n}", "Technique: CT.\nFindings: No nodule."] for n in range(8)]
    rows[2][1] = "Indication: Cough.\nTechnique: CT.\nFindings: Kein Rundherd."
    own.table(["id", "report"], rows)
    own.fetch()
    remarks = OwnData(FolderConfig(**own.settings), 0).remarks(rows_by_case(own.manifest))
    assert remarks == [
        "sections left out of the reports: technique (8), indication (1)",
        "88 % of the words of 8 reports are known English",  # 14 of 16, headings aside
    ]


def test_labels_of_the_table_are_used_and_an_empty_cell_is_no_zero(own: Own) -> None:
    rows = [[f"p{n}", "Text.", *FLAGS] for n in range(8)]
    rows[3][5] = ""
    rows[4][6] = "1.0"
    own.table(["id", "report", *ABNORMALITIES], rows)
    own.fetch()
    cases, refused = own.index()
    assert own.labelled == []
    assert cases["p0"].abnormalities == tuple(k % 2 for k in range(18))
    assert cases["p4"].abnormalities[4] == 1
    assert refused == {"p3": "bad_label"}


def test_patients_and_splits_of_the_table_are_kept(own: Own) -> None:
    rows = [[f"p{n}", "Text.", f"q{n // 2}", "test" if n < 2 else "Train"] for n in range(8)]
    own.table(["ct", "text", "who", "part"], rows)
    names = {"id_column": "ct", "findings_column": "text"}
    own.fetch(**names, patient_column="who", split_column="part")
    cases, refused = own.index()
    assert refused == {}
    assert cases["p1"].patient_id == cases["p0"].patient_id == "q0"
    assert {c.case_id for c in cases.values() if c.split == "test"} == {"p0", "p1"}


def test_two_cts_of_a_patient_stay_in_one_split_without_a_split_column(own: Own) -> None:
    rows = [[f"p{n}", "Text.", f"q{n // 2}"] for n in range(8)]
    own.table(["id", "report", "who"], rows)
    own.fetch(patient_column="who")
    cases, _ = own.index()
    assert all(cases[f"p{n}"].split == cases[f"p{n + 1}"].split for n in range(0, 8, 2))


def test_a_patient_in_both_splits_breaks_the_table(own: Own) -> None:
    rows = [[f"p{n}", "Text.", f"q{n // 2}", "test" if n in (1, 4, 5) else ""] for n in range(8)]
    rows = [[*row[:3], row[3] or "train"] for row in rows]
    own.table(["id", "report", "who", "part"], rows)
    fact = "patient q0 is in train and test"
    with pytest.raises(DataError, match=fact) as caught:
        own.fetch(patient_column="who", split_column="part")
    assert "q2" not in str(caught.value)


def test_every_bad_row_is_refused_by_name_and_the_others_are_kept(own: Own) -> None:
    (own.folder / "again").mkdir()
    own.ct("again/p6.nii.gz")
    own.ct("other.nii.gz", 90)
    rows = [
        ["p0.nii.gz", "With a suffix in the id."],
        ["p1", "Text."],
        ["p2", " "],
        ["p3", "Text."],
        ["p3", "Another text."],
        ["../p4", "Out of the folder."],
        ["p5", "nan"],
        ["p6", "Two files."],
        ["p7", "Text."],
        ["p99", "No file."],
        ["other", "Text."],
    ]
    own.table(["id", "report"], rows)
    (own.folder / "p6.nii.gz").rename(own.folder / "again/p6.nrrd")
    own.fetch()
    cases, refused = own.index()
    assert sorted(cases) == ["other", "p0", "p1", "p7"]
    assert refused == {
        "../p4": "bad_id",
        "p2": "empty_report",
        "p3": "duplicate_id",
        "p3#2": "duplicate_id",
        "p5": "empty_report",
        "p6": "ambiguous_file",
        "p99": "missing_file",
    }


def test_files_can_be_named_in_a_column_and_dicom_folders_are_copied_whole(own: Own) -> None:
    series = own.folder / "exports" / "Doe^Jane"
    write_series(series, Volume(np.maximum(own.volume.array, -1024), own.volume.affine))
    rows = [[f"p{n}", "Text.", f"p{n}.nii.gz"] for n in range(7)]
    own.table(["id", "report", "file"], [*rows, ["p7", "Text.", "exports/Doe^Jane"]])
    own.fetch(file_column="file")
    cases, refused = own.index()
    assert refused == {}
    copy = store_root() / cases["p7"].volume
    originals = sorted(series.iterdir())
    assert [path.name for path in sorted(copy.iterdir())] == [
        f"{number:05d}.dcm" for number in range(1, len(originals) + 1)
    ]
    assert (copy / "00003.dcm").read_bytes() == originals[2].read_bytes()
    assert b"Doe" not in own.manifest.read_bytes()


def test_a_second_run_copies_nothing_and_writes_the_same(own: Own) -> None:
    own.fetch()
    first = own.manifest.read_bytes()
    copies = {path: path.stat().st_mtime_ns for path in store_root().rglob("*.nii.gz")}
    own.fetch()
    assert own.manifest.read_bytes() == first
    assert {path: path.stat().st_mtime_ns for path in copies} == copies
    own.ct("p0.nii.gz", 77)
    own.fetch()
    assert own.manifest.read_bytes() != first
    assert all(path.exists() for path in copies)


def test_a_killed_copy_leaves_nothing_under_the_final_name(
    own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(source: IO[bytes], target: IO[bytes]) -> str:
        target.write(source.read(10))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("uvlm.data.sets.own.fetch.copy_stream", cut)
        with pytest.raises(KeyboardInterrupt):
            own.fetch()
    assert [path for path in store_root().rglob("*") if path.is_file()] == []
    own.fetch()
    assert len(own.index()[0]) == 8


def test_a_ct_may_be_a_folder_of_any_depth_or_one_file_of_all_slices(own: Own) -> None:
    for number, layout in enumerate(("p0", "p1/DICOM/SE0001", "p2/DICOM/SE1/1.2.3")):
        (own.folder / f"p{number}.nii.gz").unlink()
        write_series(own.folder / layout, axial(own.volume, number))
    (own.folder / "p3").mkdir()
    (own.folder / "p3.nii.gz").rename(own.folder / "p3/ct.nii.gz")
    (own.folder / "p4").mkdir()
    (own.folder / "p4/key.jpg").write_bytes(b"a key image; the CT lies beside its folder")
    (own.folder / "2024/p5").mkdir(parents=True)
    (own.folder / "p5.nii.gz").rename(own.folder / "2024/p5/p5.nii.gz")
    own.fetch()
    cases, refused = own.index()
    assert (sorted(cases), refused) == ([f"p{n}" for n in range(8)], {})
    for number in range(8):
        read = read_volume(store_root() / cases[f"p{number}"].volume).array
        expected = axial(own.volume, number).array if number < 3 else own.volume.array + number
        np.testing.assert_array_equal(read, expected)


def axial(volume: Volume, shift: int) -> Volume:
    """A CT that DICOM files can hold; its axes are canonical."""
    array = np.maximum(volume.array + np.int16(shift), -1024).astype(np.int16)
    return Volume(array, np.abs(volume.affine))


def test_case_and_accents_of_a_name_may_differ_unless_that_makes_it_ambiguous(own: Own) -> None:
    (own.folder / "p0.nii.gz").rename(own.folder / "P0.NII.GZ")
    (own.folder / "p1.nii.gz").rename(own.folder / "Pa.nii.gz")
    (own.folder / unicodedata.normalize("NFD", "Übersicht")).mkdir()
    decomposed = unicodedata.normalize("NFD", "Übersicht/p2.nii.gz")
    (own.folder / "p2.nii.gz").rename(own.folder / decomposed)
    rows = [[f"p{n}", "Text.", f"p{n}.nii.gz"] for n in range(8)]
    rows[1:3] = [["pA", "Text.", "pA"], ["p2", "Text.", r"übersicht\p2.nii.gz"]]
    own.table(["id", "report", "file"], [*rows, ["PA", "Text.", "PA"]])
    own.fetch(file_column="file")
    cases, refused = own.index()
    assert sorted(cases) == ["p0", *(f"p{n}" for n in range(2, 8))]
    assert refused == {"pA": "missing_file", "PA": "missing_file"}


def test_a_path_of_the_table_never_means_a_file_of_that_name_elsewhere(own: Own) -> None:
    (own.folder / "site_b").mkdir()
    own.ct("site_b/ct.nii.gz", 50)
    rows = [[f"p{n}", "Text.", f"p{n}.nii.gz"] for n in range(7)]
    own.table(["id", "report", "file"], [*rows, ["p7", "Text.", "site_a/ct.nii.gz"]])
    own.fetch(file_column="file")
    assert own.index()[1] == {"p7": "missing_file"}


def test_an_empty_or_endless_path_is_a_missing_file(own: Own) -> None:
    rows = [[f"p{n}", "Text.", f"p{n}.nii.gz"] for n in range(8)]
    rows[0][2], rows[1][2] = "", "a report in the wrong column " * 200
    own.table(["id", "report", "file"], rows)
    own.fetch(file_column="file")
    assert own.index()[1] == {"p0": "missing_file", "p1": "missing_file"}


def test_cts_that_no_row_names_are_counted_and_those_beside_other_series_too(own: Own) -> None:
    (own.folder / "p0.nii.gz").unlink()
    write_series(own.folder / "p0/a", axial(own.volume, 0), series="2")
    scouts = Volume(axial(own.volume, 0).array[:2], np.abs(own.volume.affine))
    write_series(own.folder / "p0/b", scouts, series="1")
    write_series(own.folder / "forgotten/SE1", axial(own.volume, 9))
    own.ct("forgotten.nii.gz", 9)
    own.fetch()
    lines = OwnData(FolderConfig(**own.settings), 0).remarks(rows_by_case(own.manifest))
    assert [line for line in lines if line.startswith("CTs")] == [
        "CTs that no row of reports.csv names: 2",
        "CTs beside other series, which are not read (`uvlm check-ct` says why): 1",
    ]


def test_what_is_recorded_names_no_patient_and_no_file(own: Own) -> None:
    def named(dataset: FileDataset, number: int) -> bool:
        dataset.PatientID = dataset.PatientName = "Doe^Jane"
        dataset.SeriesDescription = "venous, for Dr Roe"
        return True

    (own.folder / "p0.nii.gz").unlink()
    write_series(own.folder / "p0/Doe^Jane", axial(own.volume, 0), edit=named)
    (own.folder / "p0/Doe.Jane").write_text("a letter")
    for number, series in enumerate("12"):
        (own.folder / "p1.nii.gz").unlink(missing_ok=True)
        write_series(own.folder / f"p1/Roe{number}", axial(own.volume, 0), series=series)
    own.fetch()
    cases, refused = own.index()
    assert ("p0" in cases, refused) == (True, {"p1": "several_series"})
    kept = [*store_root().rglob("*.json"), *own.folder.parent.glob("*.jsonl")]
    for text in (path.read_text() for path in kept):
        assert not any(private in text for private in ("Doe", "Jane", "Roe", "2.25."))
    (record,) = store_root().rglob("read-*.json")
    assert json.loads(record.read_text())["cts"]["p0"]["contrast"] == [
        "phase venous (SeriesDescription)"
    ]
