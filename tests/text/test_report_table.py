"""Tables of reports are read exactly, or refused with the row and the column at fault."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvlm.errors import ConfigError, DataError
from uvlm.tables import read_table
from uvlm.text.report_table import read_report_table

HEADER = b"id,report\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "reports.csv"


def test_texts_are_joined_in_the_order_asked_for(table: Path) -> None:
    table.write_text("scan,b,a\n1,second,first\n2,,only a\n", encoding="utf-8")
    reports = read_report_table(table, ["a", "b"])
    assert reports.id_column == "scan"
    assert reports.ids == ("1", "2")
    assert reports.texts == ("first\n\nsecond", "only a")


def test_the_id_column_can_be_named(table: Path) -> None:
    table.write_text(",text,id\n0,No nodule.,b\n1,Nodule.,a\n", encoding="utf-8")
    assert read_report_table(table, ["text"], "id").ids == ("b", "a")
    with pytest.raises(DataError, match=r"first column has no name.*--id-column.*text, id"):
        read_report_table(table, ["text"])


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + HEADER + b'a,"line 1\nline ""2"""\n',
        b'id,report\r\na,"line 1\nline ""2"""\r\n\r\n',
        b'id,report\ra,"line 1\nline ""2"""',
    ],
    ids=["byte order mark", "windows, blank line at the end", "old mac, no end of line"],
)
def test_harmless_ways_of_writing_are_read_alike(content: bytes, table: Path) -> None:
    table.write_bytes(content)
    reports = read_report_table(table, ["report"])
    assert (reports.id_column, reports.ids) == ("id", ("a",))
    assert reports.texts == ('line 1\nline "2"',)


@pytest.mark.parametrize(
    "content",
    [
        b"id,report,\na,one,\nb,two,\n",
        b"id,report,,\na,one\nb,two,,\n",
        b"id,report\na,one,\nb,two,,,\n",
        b",,\nid,report\n,\na,one\n,,,,\n \t,\nb,two\n,,\n",
        b"id, report ,\na,one\nb,two\n",
        b"\xef\xbb\xbfid,report,\r\na,one,\r\n,,\r\nb,two,\r\n",
    ],
    ids=["a comma more", "header only", "rows only", "empty rows", "blanks", "from Excel"],
)
def test_what_spreadsheets_leave_behind_is_no_content(content: bytes, table: Path) -> None:
    table.write_bytes(content)
    reports = read_report_table(table, ["report"])
    assert (reports.ids, reports.texts) == (("a", "b"), ("one", "two"))


def test_text_beyond_the_last_named_column_is_not_dropped(table: Path) -> None:
    """A report with commas and without quotes fills the columns without a name."""
    table.write_bytes(b"id,report,,\na,No nodule, no mass,\n")
    with pytest.raises(DataError, match=r"row 1 \(line 2\) has 3 fields, the header 2"):
        read_report_table(table, ["report"])


def test_a_report_may_be_of_any_length(table: Path) -> None:
    text = "No nodule. " * 30_000
    table.write_text(f"id,report\na,{text}\nb,short\n", encoding="utf-8")
    assert read_report_table(table, ["report"]).texts == (text, "short")


BAD = {
    "empty file": (b"", "empty"),
    "latin 1": (HEADER + b"a,ok\nb,\xfcber\n", r"line 3, byte 3: 0xfc is not UTF-8"),
    "utf-16": (("id,report\na,b\n").encode("utf-16"), "UTF-16"),
    "binary": (HEADER + b"a,\x00\n", "line 2 holds a NUL"),
    "open quote": (HEADER + b'a,ok\nb,"cut off\nhere', "begins on line 3 is damaged"),
    "text after a quote": (HEADER + b'a,"ok" not\n', "begins on line 2 is damaged"),
    "too few fields": (HEADER + b"a,ok\nb\n", r"row 2 \(line 3\) has 1 fields, the header 2"),
    "too many fields": (HEADER + b"a,no, comma\n", r"row 1 \(line 2\) has 3 fields, the header 2"),
    "missing column": (b"id,text\na,ok\n", "column report is missing; the columns are id, text"),
    "semicolons": (b"id;report\na;ok\n", "column report is missing; fields are separated by ';'"),
    "tabs": (b"id\treport\na\tok\n", r"fields are separated by '\\t'"),
    "column twice": (b"id,report,report\na,b,c\n", "column report occurs twice"),
    "id twice": (
        HEADER + b'a,"one\ntwo"\nb,ok\na,ok\n',
        r"row 3 \(line 5\), column id: the id 'a' is already in row 1 \(line 2\)",
    ),
    "no id": (HEADER + b" ,ok\n", r"row 1 \(line 2\), column id: the id is ' '"),
    "nan as id": (HEADER + b"nan,ok\n", r"row 1 \(line 2\), column id: the id is 'nan'"),
    "blank in id": (HEADER + b"a ,ok\n", "the id 'a ' has blanks around it"),
    "no text": (HEADER + b"a,ok\nb, \n", r"row 2 \(line 3\), column report: there is no text"),
    "nan as text": (HEADER + b"a,NaN\n", r"row 1 \(line 2\), column report: 'NaN' instead of"),
    "git lfs pointer": (b"version https://git-lfs\noid sha256:0\n", "column report is missing"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_a_bad_table_is_refused_with_its_place(content: bytes, message: str, table: Path) -> None:
    table.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_report_table(table, ["report"])
    assert str(table) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_problem_is_counted_and_the_first_twenty_are_spelled_out(table: Path) -> None:
    table.write_text("id,report\n" + "a,\n" * 12, encoding="utf-8")
    with pytest.raises(DataError, match="; and 3 more; correct") as caught:
        read_report_table(table, ["report"])
    assert (
        str(caught.value).count("row") == 11 * 2 + 9
    )  # each second id names its first row, 9 of 12 have no text


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file; check the path$"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(DataError, match=r"no such file; check the path$"):
        read_table(tmp_path / "no folder" / "absent.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path)


def test_an_empty_report_is_taken_only_when_asked(table: Path) -> None:
    table.write_text("id,report\na,\n", encoding="utf-8")
    assert read_report_table(table, ["report"], allow_empty=True).texts == ("",)


def test_no_column_and_the_id_as_text_are_usage_errors(table: Path) -> None:
    table.write_text("report\ntext\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="names no column"):
        read_report_table(table, [])
    with pytest.raises(ConfigError, match="report is both the id and a text"):
        read_report_table(table, ["report"])


fields = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@settings(deadline=None, max_examples=50)
@given(st.lists(fields, min_size=1, max_size=5))
def test_what_the_csv_module_writes_is_read_back(texts: list[str]) -> None:
    import tempfile

    # The full stop, as a line that ends with a colon is a heading.
    rows = [(f"case {number}", f"text {text}.") for number, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reports.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("id", "report"), *rows])
        table = read_report_table(path, ["report"])
    assert list(zip(table.ids, table.texts, strict=True)) == rows


def test_published_broken_tables_are_refused(real_data: Path) -> None:
    with pytest.raises(DataError, match="begins on line 2 is damaged"):
        read_table(real_data / "bad" / "abdomen_truncated_in_a_quoted_field.csv")


def test_published_reports_are_read(real_data: Path) -> None:
    path = real_data / "reports" / "ct_rate_validation_reports.csv"
    table = read_report_table(path, ["Findings_EN", "Impressions_EN"])
    assert table.id_column == "VolumeName"
    assert len(table.ids) == 1564


def test_a_missing_table_names_those_that_are_there(tmp_path: Path) -> None:
    for name in ("befunde.csv", "b2.csv", "b3.csv", "p01.nii.gz"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"there is b2\.csv, b3\.csv, befunde\.csv$"):
        read_table(tmp_path / "reports.csv")
    (tmp_path / "reports.xlsx").touch()
    with pytest.raises(DataError, match=r"reports\.xlsx, b2\.csv, b3\.csv \(save it as CSV"):
        read_table(tmp_path / "reports.csv")


@pytest.mark.parametrize("name", ["reports.xlsx", "reports.csv"])
def test_a_spreadsheet_is_said_to_be_one_whatever_its_name(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as workbook:  # which is what .xlsx and .ods are
        workbook.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(DataError, match=r"is a spreadsheet or an archive.*save it as CSV"):
        read_table(tmp_path / name)
