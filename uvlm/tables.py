"""CSV tables, read whole or refused whole with every problem listed.

A broken table (encoding, quoting, header, length of a row, a column of flags without a flag) is one
DataError. A row that is merely bad itself is a `BadRow`; the rest of the table remains usable.

Rows count from 1 below the header, lines from 1 at the top of the file; a row with line breaks in
its fields covers several lines and is named by the first. What spreadsheets leave behind is no
content: rows of empty cells do not count, nor do empty cells to the right of the last named column.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uvlm.errors import DataError

FLAGS: Final[Mapping[str, int]] = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
_MOST_LISTED: Final = 20
_OTHER_ENCODINGS: Final = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_OFFICE: Final = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # how .xlsx, .ods and .xls begin
_AS_CSV: Final = "save it as CSV (UTF-8, commas)"
_MOST_NAMED: Final = 3


@dataclass(frozen=True)
class TableRow:
    """One row below the header: its number, the line it begins on, its fields by column.

    Entries of a JSON list have no line, which is 0 then.
    """

    row: int
    line: int
    values: dict[str, str]

    @property
    def place(self) -> str:
        """The row and line, in words."""
        return f"row {self.row} (line {self.line})" if self.line else f"entry {self.row}"


@dataclass(frozen=True)
class Table:
    """A file in which every row has one field per column."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, its case, and why; `reason` is a slug to count by."""

    case_id: str
    reason: str
    fact: str


def read_table(path: Path, columns: Sequence[str] = ()) -> Table:
    """Read every row of a CSV file that has at least these columns; empty rows are skipped.

    Raises:
        DataError: the file is missing, empty or not UTF-8, a quote is left open, a column is
            missing or occurs twice, or a row has more or fewer fields than the header.
    """
    return read_csv(path, read_text(path), columns)


def read_csv(path: Path, text: str, columns: Sequence[str] = ()) -> Table:
    """Read the content of a CSV file, as `read_table` does."""
    records = _records(path, text)
    _, header = next(records, (0, []))
    if not header:
        raise DataError(path, "the table is empty", "the first line must name the columns")
    header = _without_empty_end([name.strip() for name in header], 0)
    problems = _header_problems(header, columns)
    rows = []
    for number, (line, fields) in enumerate(records, start=1):
        record = _without_empty_end(fields, len(header))
        row = TableRow(number, line, dict(zip(header, record, strict=False)))
        if len(record) != len(header):
            problems.append(f"{row.place} has {len(record)} fields, the header {len(header)}")
        rows.append(row)
    refuse(path, problems)
    return Table(path, tuple(header), tuple(rows))


def read_text(path: Path) -> str:
    """Read a text file as UTF-8, with or without a byte order mark."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(path, "no such file", _beside(path)) from None
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})") from None
    if content.startswith(_OFFICE):
        raise DataError(path, "is a spreadsheet or an archive, not text", _AS_CSV)
    if encoding := _OTHER_ENCODINGS.get(content[:2]):
        raise DataError(path, f"the encoding is {encoding}", "save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before, byte = error.object[: error.start], error.object[error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        fact = f"line {line}, byte {column}: {byte:#04x} is not UTF-8"
        raise DataError(path, fact, "save it as UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(path, f"line {line} holds a NUL character", "this is not a text file")
    return text


def _beside(path: Path) -> str:
    """Say what to do about a file that is not there, from the tables in its folder."""
    try:
        there = sorted(f for f in path.parent.iterdir() if f.is_file() and f.name.isprintable())
    except OSError:
        there = []
    same = [file for file in there if file.stem == path.stem]
    files = same + [file for file in there if file.suffix.lower() == ".csv" and file not in same]
    if not files:
        return "check the path"
    names = ", ".join(file.name for file in files[:_MOST_NAMED])
    spreadsheet = any(file.suffix.lower() in (".xlsx", ".xls", ".ods") for file in files)
    advice = f" ({_AS_CSV})" if spreadsheet else ""
    return f"check the path; in its folder there is {names}{advice}"


def refuse(path: Path, problems: Sequence[str], remedy: str = "") -> None:
    """Raise one DataError if a file has problems."""
    if problems:
        raise refusal_of(path, problems, remedy)


def refusal_of(path: Path, problems: Sequence[str], remedy: str = "") -> DataError:
    """Make one DataError of problems; the first twenty of them are spelled out."""
    more = len(problems) - _MOST_LISTED
    listed = [*problems[:_MOST_LISTED], *([f"and {more} more"] if more > 0 else [])]
    return DataError(path, "; ".join(listed), remedy or "correct the table or get it again")


def flags_of(row: TableRow, columns: Sequence[str]) -> tuple[int, ...] | str:
    """Read 0 or 1 from every column, or return the fact to report if a cell holds neither."""
    flags = [_flag(row, name) for name in columns]
    wrong = [f"{n} is {row.values[n]!r}" for n, f in zip(columns, flags, strict=True) if f is None]
    if wrong:
        return f"{row.place}: {', '.join(wrong)}, not 0 or 1"
    return tuple(flag for flag in flags if flag is not None)


def check_flags(path: Path, rows: Sequence[TableRow], columns: Sequence[str]) -> None:
    """Refuse a table in which a column of flags holds none."""
    problems = [
        f"column {name} holds no 0 or 1: {rows[0].place} has {rows[0].values[name]!r}"
        for name in columns
        if rows and all(_flag(row, name) is None for row in rows)
    ]
    refuse(path, problems)


def _flag(row: TableRow, column: str) -> int | None:
    return FLAGS.get(row.values[column].strip())


def _without_empty_end(fields: list[str], at_least: int) -> list[str]:
    """Drop empty fields from the end of a record."""
    end = len(fields)
    while end > at_least and not fields[end - 1].strip():
        end -= 1
    return fields[:end]


def _records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record that says something, with the line it begins on."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a report may be of any length
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fact = f"the row that begins on line {line} is damaged ({error})"
            raise DataError(path, fact, "the table is cut off, or a quote is missing") from None
        if any(field.strip() for field in record):
            yield line, record


def _header_problems(header: Sequence[str], wanted: Sequence[str]) -> list[str]:
    problems = [f"column {c} occurs twice" for c in sorted({*header} - {""}) if header.count(c) > 1]
    missing = [c for c in dict.fromkeys(wanted) if c not in header]
    if missing:
        there = ", ".join(header)
        separators = [s for s in (";", "\t") if len(header) == 1 and s in there]
        problems += [f"column {c} is missing" for c in missing]
        problems += [f"fields are separated by {s!r} instead of a comma" for s in separators]
        problems += [] if separators else [f"the columns are {there}"]
    return problems
