"""CSV tables of anybody's reports, read whole or refused whole.

Rows count from 1 below the header, lines from 1 at the top of the file; a row whose fields hold
line breaks covers several lines and is named by its first. Every problem of a table is found before
anything is returned, and all of them are in one DataError.

    table = read_report_table(Path("reports.csv"), ["Findings_EN", "Impressions_EN"])
    table.ids    ("valid_1_a", "valid_2_a", ...)
    table.texts  one text a row, columns joined by a blank line
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uvlm.errors import ConfigError, DataError

_MOST_LISTED: Final = 5
_NOT_A_TEXT: Final = frozenset({"nan", "none", "null", "na", "n/a", "#n/a", "<na>"})
_BYTE_ORDER_MARKS: Final = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True)
class StrictRow:
    """One row below the header: what it is called in a message, and its field by column."""

    place: str
    values: dict[str, str]


@dataclass(frozen=True)
class StrictTable:
    """A CSV file of which every row has one field a column."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[StrictRow, ...]


@dataclass(frozen=True)
class ReportTable:
    """Texts and their ids, in the order of the file; no id comes twice."""

    path: Path
    id_column: str
    ids: tuple[str, ...]
    texts: tuple[str, ...]


def read_report_table(
    path: Path,
    text_columns: Sequence[str],
    id_column: str | None = None,
    *,
    allow_empty: bool = False,
) -> ReportTable:
    """Read ids and texts.

    Args:
        path: a UTF-8 CSV file with a header, with or without a byte order mark.
        text_columns: joined in this order by a blank line; empty fields are left out.
        id_column: the first column unless named.
        allow_empty: take a row without any text as the empty report instead of refusing it.

    Raises:
        ConfigError: no text column is named, or one of them is also the id.
        DataError: the encoding, the quoting, the header or a row is wrong; an id is empty, comes
            twice or has blanks around it; a text is missing, or "nan" stands in its place.
    """
    if not text_columns:
        raise ConfigError("--text-column", "names no column", "name at least one")
    table = read_strict_table(path, [*text_columns, *([id_column] if id_column else [])])
    id_column = id_column or table.columns[0]
    if not id_column:
        raise DataError(path, "the first column has no name", "name the one with the ids")
    if id_column in text_columns:
        fact = f"{id_column} is both the id and a text"
        raise ConfigError("--id-column", fact, "name the column that holds the ids")
    problems = [*_id_problems(table, id_column)]
    problems += _text_problems(table, text_columns, allow_empty=allow_empty)
    if problems:
        raise refused(path, problems)
    texts = ("\n\n".join(filter(None, (row.values[c] for c in text_columns))) for row in table.rows)
    return ReportTable(path, id_column, tuple(r.values[id_column] for r in table.rows), (*texts,))


def read_strict_table(path: Path, columns: Sequence[str] = ()) -> StrictTable:
    """Read every row of a CSV file that has at least these columns; blank lines are skipped.

    Raises:
        DataError: the file is missing, empty or no UTF-8, a quote is left open, a column is missing
            or comes twice, or a row has more or fewer fields than the header.
    """
    records = list(_records(path, _read_text(path)))
    if not records:
        raise DataError(path, "the table is empty", "the first line must name the columns")
    header, below = records[0][1], records[1:]
    problems = _header_problems(header, columns)
    rows = []
    for number, (line, record) in enumerate(below, start=1):
        place = f"row {number} (line {line})"
        if len(record) != len(header):
            problems.append(f"{place} has {len(record)} fields, the header {len(header)}")
        rows.append(StrictRow(place, dict(zip(header, record, strict=False))))
    if problems:
        raise refused(path, problems)
    return StrictTable(path, tuple(header), tuple(rows))


def refused(path: Path, problems: Sequence[str]) -> DataError:
    """Make one error of all problems of a table; the first few are spelled out."""
    more = len(problems) - _MOST_LISTED
    listed = [*problems[:_MOST_LISTED], *([f"and {more} more"] if more > 0 else [])]
    return DataError(path, "; ".join(listed), "correct the table")


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(path, "no such file") from None
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})") from None
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            raise DataError(path, f"the encoding is {encoding}", "save the table as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        fact = f"line {line}, byte {column}: {content[error.start]:#04x} is not UTF-8"
        raise DataError(path, fact, "save the table as UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(path, f"line {line} holds a NUL character", "this is no text file")
    return text


def _records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Give each record with the line it begins on."""
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
        if record:
            yield line, record


def _header_problems(header: Sequence[str], wanted: Sequence[str]) -> list[str]:
    problems = [f"column {c} comes twice" for c in sorted({*header} - {""}) if header.count(c) > 1]
    missing = [c for c in dict.fromkeys(wanted) if c not in header]
    if missing:
        there = ", ".join(header)
        separators = [s for s in (";", "\t") if len(header) == 1 and s in there]
        problems += [f"column {c} is missing" for c in missing]
        problems += [f"fields are separated by {s!r} instead of a comma" for s in separators]
        problems += [] if separators else [f"the columns are {there}"]
    return problems


def _id_problems(table: StrictTable, column: str) -> Iterator[str]:
    first_place: dict[str, str] = {}
    for row in table.rows:
        value, where = row.values[column], f"{row.place}, column {column}"
        if not value.strip() or value.strip().lower() in _NOT_A_TEXT:
            yield f"{where}: the id is {value!r}"
        elif value != value.strip():
            yield f"{where}: the id {value!r} has blanks around it"
        elif value in first_place:
            yield f"{where}: the id {value!r} is already in {first_place[value]}"
        first_place.setdefault(value, row.place)


def _text_problems(
    table: StrictTable, columns: Sequence[str], *, allow_empty: bool
) -> Iterator[str]:
    for row in table.rows:
        texts = {column: row.values[column].strip() for column in columns}
        for column, text in texts.items():
            if text.lower() in _NOT_A_TEXT:
                yield f"{row.place}, column {column}: {text!r} in place of a text"
        if not allow_empty and not any(texts.values()):
            yield f"{row.place}, column {' and '.join(columns)}: there is no text"
