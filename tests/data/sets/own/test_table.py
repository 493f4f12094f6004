"""A person's own table: broken ones are refused whole, every row of the others has an end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.sets.own.folder import FLAGS
from uvlm.config import FolderConfig
from uvlm.data.sets.own.table import read_own_table
from uvlm.errors import ConfigError, DataError
from uvlm.text.abnormalities import ABNORMALITIES

if TYPE_CHECKING:
    from tests.data.sets.own.folder import Own


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
        ("id;report\np0;Text\n", "column id is missing.*separated by ';'"),
        ("id,text\np0,Text\n", "column report is missing"),
        ('id,report\np0,"Te\n', r"line 2 is damaged \(unexpected end of data"),
        ("id,report\np0,Te\0xt\n", "line 2 holds a NUL character"),
        ("id,report\np0,Text,more\n", r"row 1 \(line 2\) has 3 fields, the header 2"),
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
    with pytest.raises(DataError, match="line 2, byte 18: 0xfe is not UTF-8"):
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
    with pytest.raises(ConfigError, match="is not a folder"):
        own.fetch()
    monkeypatch.delenv("UVLM_OWN_DATA")
    with pytest.raises(ConfigError, match="UVLM_OWN_DATA: is not set"):
        own.fetch()


def test_a_report_with_headings_of_its_own_is_taken_apart(own: Own) -> None:
    text = "INDICATION: Cough.\nFINDINGS: No nodule.\nIMPRESSION: Normal."
    own.table(["id", "report"], [["p0", text], ["p1", "TECHNIQUE: CT.\nFINDINGS:\n"]])
    good, bad = read_own_table(own.folder / "reports.csv", FolderConfig(**own.settings))
    assert good[0].report.text == "Findings: No nodule. Impressions: Normal."
    assert good[0].left_out == ("indication",)
    assert (bad[0].reason, bad[0].fact) == (
        "empty_report",
        "row 2 (line 5): there is no report beside technique",
    )


def test_columns_of_findings_and_impression_may_repeat_their_headings(own: Own) -> None:
    own.table(["id", "report", "end"], [["p0", "Findings: No nodule.", "Impression: Normal."]])
    config = FolderConfig(**own.settings | {"impression_column": "end"})
    good, _ = read_own_table(own.folder / "reports.csv", config)
    assert good[0].report.text == "Findings: No nodule. Impressions: Normal."
