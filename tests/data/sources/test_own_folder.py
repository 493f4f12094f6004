"""A person's own CTs and reports: copied, indexed, refused by name, and never touched."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uvlm.config import FolderConfig, Params
from uvlm.data import index
from uvlm.data.cases import Case, read_index
from uvlm.data.io import read_volume, write_volume
from uvlm.data.sources.fetch_folder import Folder
from uvlm.data.sources.own_table import read_own_table
from uvlm.data.volume import Volume
from uvlm.errors import ConfigError, DataError
from uvlm.store import read_manifest, store_root, verify
from uvlm.text.abnormalities import ABNORMALITIES

FLAGS = [str(k % 2) for k in range(18)]


@dataclass
class Own:
    """A folder of a person, and what the pipeline makes of it."""

    folder: Path
    volume: Volume
    params: Params
    settings: dict[str, Any] = field(
        default_factory=lambda: {
            "table": "reports.csv",
            "id_column": "id",
            "findings_column": "report",
            "impression_column": None,
            "file_column": None,
            "patient_column": None,
            "split_column": None,
            "test_fraction": 0.25,
        }
    )
    labelled: list[str] = field(default_factory=list)

    @property
    def manifest(self) -> Path:
        return self.folder.with_name("download.jsonl")

    def ct(self, name: str, shift: int = 0) -> None:
        """Write a CT; those of different shifts differ."""
        array = (self.volume.array.astype(np.int16) + np.int16(shift)).astype(np.int16)
        write_volume(self.folder / name, Volume(array, self.volume.affine))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        with (self.folder / "reports.csv").open("w", newline="") as file:
            csv.writer(file).writerows([columns, *rows])

    def fetch(self, **changed: Any) -> None:
        self.settings |= changed

        def label(texts: Sequence[str]) -> list[list[int]]:
            self.labelled += texts
            return [[int("nodule" in text)] * 18 for text in texts]

        Folder(FolderConfig(**self.settings), label).fetch(self.manifest)

    def index(self) -> tuple[dict[str, Case], dict[str, str]]:
        """Give cases by id, and reason by refused case."""
        changed = {"source": "folder", "folder": FolderConfig(**self.settings)}
        download = self.params.download.model_copy(update=changed)
        params = self.params.model_copy(update={"download": download})
        out, quarantine = self.folder.with_name("index.jsonl"), self.folder.with_name("q.jsonl")
        summary = index.build(params, self.manifest, out, quarantine)
        refused = [json.loads(line) for line in quarantine.read_text().splitlines()]
        assert summary.candidates == sum(summary.kept.values()) + len(refused)
        return {c.case_id: c for c in read_index(out)}, {e["case"]: e["reason"] for e in refused}

    def state(self) -> dict[str, tuple[bytes, int, int]]:
        """Everything that could be changed in the person's folder."""
        return {
            path.relative_to(self.folder).as_posix(): (
                path.read_bytes(),
                path.stat().st_mtime_ns,
                path.stat().st_nlink,
            )
            for path in self.folder.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def own(tmp_path: Path, volume: Volume, params: Params, monkeypatch: pytest.MonkeyPatch) -> Own:
    """Eight CTs under their ids and a table without labels."""
    monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "store"))
    monkeypatch.setenv("UVLM_OWN_DATA", str(tmp_path / "mine"))
    folder = tmp_path / "mine"
    folder.mkdir()
    own = Own(folder, volume, params)
    for number in range(8):
        own.ct(f"p{number}.nii.gz", number)
    reports = [[f"p{n}", "A nodule." if n % 2 else f"Clear {n}."] for n in range(8)]
    own.table(["id", "report"], reports)
    return own


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
    series.mkdir(parents=True)
    for number in (3, 1, 2):
        (series / f"IM{number}").write_bytes(b"slice %d" % number)
    rows = [[f"p{n}", "Text.", f"p{n}.nii.gz"] for n in range(7)]
    own.table(["id", "report", "file"], [*rows, ["p7", "Text.", "exports/Doe^Jane"]])
    own.fetch(file_column="file")
    cases, refused = own.index()
    assert refused == {}
    copy = store_root() / cases["p7"].volume
    assert [path.name for path in sorted(copy.iterdir())] == [f"{n:05d}.dcm" for n in (1, 2, 3)]
    assert (copy / "00003.dcm").read_bytes() == b"slice 3"
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
    def cut(source: Path, target: Path) -> None:
        Path(target).write_bytes(Path(source).read_bytes()[:10])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("uvlm.data.sources.fetch_folder.shutil.copyfile", cut)
        with pytest.raises(KeyboardInterrupt):
            own.fetch()
    assert [path for path in store_root().rglob("*") if path.is_file()] == []
    own.fetch()
    assert len(own.index()[0]) == 8


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["p1", "p1.nii.gz", "p2", "p3", "", "../p4", " p5 "]),
            st.sampled_from(["Clear.", 'A,\n"quoted" line', "", "nan", "Not given."]),
            st.sampled_from(["q1", "q2", " "]),
            st.sampled_from(["0", "1", "1.0", "", "2", "yes"]),
        ),
        max_size=12,
    )
)
def test_every_row_in_is_a_row_out_whatever_is_in_it(own: Own, rows: list[tuple[str, ...]]) -> None:
    table = [[*row[:3], row[3], *FLAGS[1:]] for row in [*rows, ("last", "Clear.", "q3", "1")]]
    own.table(["id", "report", "who", *ABNORMALITIES], table)
    config = FolderConfig(**own.settings | {"patient_column": "who"})
    good, bad = read_own_table(own.folder / "reports.csv", config)
    ids = [row.case_id for row in good] + [row.case_id for row in bad]
    assert len(ids) == len(set(ids)) == len(table)
    assert {row.case_id for row in good} <= {"p1", "p2", "p3", "p5", "last"}
    assert all(row.flags and set(row.flags) <= {0, 1} and row.report.text for row in good)
    assert all(row.reason and row.fact for row in bad)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("id;report\np0;Text\n", "column id is missing.*separated by semicolons"),
        ("id,text\np0,Text\n", "column report is missing"),
        ('id,report\np0,"Te\n', "line 2: unexpected end of data"),
        ("id,report\np0,Te\0xt\n", "line 2 holds a NUL character"),
        ("id,report\np0,Text,more\n", "line 2 has 3 fields, the header 2"),
        ("id,report,Cardiomegaly\np0,Text,1\n", "column Medical material is missing beside Cardio"),
        (
            "id,report," + ",".join(ABNORMALITIES) + "\np0,Text," + ",".join(["yes"] * 18) + "\n",
            r"column Medical material holds no 0 or 1: row 1 \(line 2\) has 'yes'; column Arterial",
        ),
    ],
)
def test_a_broken_table_is_refused_whole(own: Own, text: str, fact: str) -> None:
    (own.folder / "reports.csv").write_bytes(text.encode())
    with pytest.raises(DataError, match=fact) as caught:
        own.fetch()
    assert caught.value.exit_code == 3
    assert not own.manifest.exists()


def test_encodings_other_than_utf8_are_refused_or_read_right(own: Own) -> None:
    text = "id,report\np0,Kalsifikasyon ş\n"
    (own.folder / "reports.csv").write_bytes(text.encode("utf-8-sig"))
    (row,), bad = read_own_table(own.folder / "reports.csv", FolderConfig(**own.settings))
    assert (row.report.findings, bad) == ("Kalsifikasyon ş", [])
    (own.folder / "reports.csv").write_bytes(text.encode("cp1254"))
    with pytest.raises(DataError, match="line 2: byte 0xfe is not UTF-8"):
        own.fetch()
    (own.folder / "reports.csv").write_bytes(text.encode("utf-16"))
    with pytest.raises(DataError, match="the encoding is UTF-16"):
        own.fetch()


def test_a_folder_that_is_not_named_or_holds_no_ct_is_one_line(
    own: Own, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for path in own.folder.glob("*.nii.gz"):
        path.unlink()
    with pytest.raises(DataError, match=r"none of the 8 CTs that reports\.csv names is there"):
        own.fetch()
    monkeypatch.setenv("UVLM_OWN_DATA", os.fspath(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="is no folder"):
        own.fetch()
    monkeypatch.delenv("UVLM_OWN_DATA")
    with pytest.raises(ConfigError, match="UVLM_OWN_DATA: is not set"):
        own.fetch()
