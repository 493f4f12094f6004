"""A person's own CTs and reports: copied, indexed, refused by name, and never touched."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.dicom_series import write_series
from tests.data.sets.own.folder import FLAGS
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.volume import Volume
from uvlm.errors import DataError
from uvlm.files import store_root
from uvlm.store import read_manifest, verify
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
    assert verify(store_root(), [own.manifest]) == []
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
