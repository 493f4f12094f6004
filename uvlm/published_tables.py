"""Published CSV tables, read whole or refused whole with every error listed.

A broken table (encoding, quoting, header, length of a row, a column of flags without a flag) is one
DataError. A row that is bad by itself is a `BadRow`: the rest of the table is good without it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uvlm.errors import DataError

_MOST_LISTED: Final = 20
_FLAGS: Final = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
_OTHER_SEPARATORS: Final = {";": "semicolons", "\t": "tabs"}


@dataclass(frozen=True)
class TableRow:
    """One record of a table: its number below the header, and the line it ends on."""

    line: int
    values: dict[str, str]
    row: int = 0

    @property
    def place(self) -> str:
        """Say where it is."""
        return f"row {self.row} (line {self.line})"


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, of which case, and why; `reason` is a slug to count by."""

    case_id: str
    reason: str
    fact: str


def read_table(path: Path, columns: Sequence[str]) -> list[TableRow]:
    """Read a UTF-8 CSV file that has at least these columns.

    Raises:
        DataError: the encoding, the quoting, the header or the length of a row is wrong.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        records = [(reader.line_num, record) for record in reader if record]
    except csv.Error as error:
        fact = f"line {reader.line_num}: {error}"
        raise DataError(path, fact, "the table is cut off or damaged; get it again") from None
    header = records[0][1] if records else []
    problems = list(_header_problems(header, columns))
    problems += [
        f"line {line} has {len(record)} fields, the header {len(header)}"
        for line, record in records[1:]
        if len(record) != len(header)
    ]
    if problems:
        raise broken_table(path, problems)
    return [
        TableRow(line, dict(zip(header, record, strict=True)), number)
        for number, (line, record) in enumerate(records[1:], start=1)
    ]


def read_text(path: Path) -> str:
    """Read a text file as UTF-8, with or without a byte order mark."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(path, "no such file", "run `dvc repro -f -s download`") from None
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(path, "the encoding is UTF-16", "save the table as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        fact = f"line {line}: byte {error.object[error.start]:#04x} is not UTF-8"
        raise DataError(path, fact, "save the table as UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(path, f"line {line} holds a NUL character", "get the table again")
    return text


def broken_table(path: Path, problems: Sequence[str]) -> DataError:
    """Make one error of all problems of a table; the first ones are spelled out."""
    listed = "; ".join(problems[:_MOST_LISTED])
    more = f"; and {len(problems) - _MOST_LISTED} more" if len(problems) > _MOST_LISTED else ""
    return DataError(path, listed + more, "get the table again or correct it")


def flags_of(row: TableRow, columns: Sequence[str]) -> tuple[int, ...] | str:
    """Read 0 or 1 from every column; the fact to report when a cell holds neither."""
    wrong = [f"{name} is {row.values[name]!r}" for name in columns if _flag(row, name) is None]
    if wrong:
        return f"{row.place}: {', '.join(wrong)}, not 0 or 1"
    return tuple(_FLAGS[row.values[name].strip()] for name in columns)


def check_flags(path: Path, rows: Sequence[TableRow], columns: Sequence[str]) -> None:
    """Refuse a table with a column of flags in which no row holds one."""
    problems = [
        f"column {name} holds no 0 or 1: {rows[0].place} has {rows[0].values[name]!r}"
        for name in columns
        if rows and all(_flag(row, name) is None for row in rows)
    ]
    if problems:
        raise broken_table(path, problems)


def _flag(row: TableRow, column: str) -> int | None:
    return _FLAGS.get(row.values[column].strip())


def _header_problems(header: Sequence[str], columns: Sequence[str]) -> Iterator[str]:
    missing = [name for name in columns if name not in header]
    yield from (f"column {name} is missing" for name in missing)
    yield from (f"column {n} comes twice" for n in sorted(set(header)) if header.count(n) > 1)
    if missing and len(header) == 1:
        for separator, name in _OTHER_SEPARATORS.items():
            if separator in header[0]:
                yield f"the fields are separated by {name}, not commas"
