"""Published CSV tables, read whole or refused whole with every error listed."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uvlm.errors import DataError

_MOST_LISTED: Final = 5


@dataclass(frozen=True)
class TableRow:
    """One record of a table and the line it ends on."""

    line: int
    values: dict[str, str]


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
    problems = [f"column {name} is missing" for name in columns if name not in header]
    problems += [f"column {name} comes twice" for name in set(header) if header.count(name) > 1]
    problems += [
        f"line {line} has {len(record)} fields, the header {len(header)}"
        for line, record in records[1:]
        if len(record) != len(header)
    ]
    if problems:
        raise broken_table(path, problems)
    return [TableRow(line, dict(zip(header, record, strict=True))) for line, record in records[1:]]


def read_text(path: Path) -> str:
    """Read a text file as UTF-8, with or without a byte order mark."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(path, "no such file", "run `dvc repro -f -s download`") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        fact = f"line {line}: byte {error.object[error.start]:#04x} is not UTF-8"
        raise DataError(path, fact, "save the table as UTF-8") from None


def broken_table(path: Path, problems: Sequence[str]) -> DataError:
    """Make one error of all problems of a table; the first few are spelled out."""
    listed = "; ".join(problems[:_MOST_LISTED])
    more = f"; and {len(problems) - _MOST_LISTED} more" if len(problems) > _MOST_LISTED else ""
    return DataError(path, listed + more, "get the table again or correct it")
