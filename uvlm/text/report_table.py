"""Tables of anybody's reports, CSV or JSON, read whole or refused whole.

One DataError lists every problem of a table.

    table = read_report_table(Path("reports.csv"), ["Findings_EN", "Impressions_EN"])
    table.ids    ("valid_1_a", "valid_2_a", ...)
    table.texts  one text per row, columns joined by a blank line
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uvlm.errors import ConfigError, DataError
from uvlm.tables import Table, read_csv, read_text, refuse
from uvlm.text.report_json import is_json, read_json_table
from uvlm.text.sections import has_only_headings

_NOT_A_TEXT: Final = frozenset({"nan", "none", "null", "na", "n/a", "#n/a", "<na>"})


@dataclass(frozen=True)
class ReportTable:
    """Texts, their ids and their rows, in the order of the file; no id occurs twice."""

    path: Path
    id_column: str
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    places: tuple[str, ...]


def read_any_table(path: Path, columns: Sequence[str] = ()) -> Table:
    """Read a CSV table, or JSON (report_json.py), that has at least these columns."""
    text = read_text(path)
    return (read_json_table if is_json(text) else read_csv)(path, text, columns)


def read_report_table(
    path: Path,
    text_columns: Sequence[str],
    id_column: str | None = None,
    *,
    allow_empty: bool = False,
) -> ReportTable:
    """Read ids and texts.

    Args:
        path: a UTF-8 CSV file with a header, with or without a byte order mark; or JSON.
        text_columns: joined in this order by a blank line; empty fields are left out.
        id_column: the first column unless named.
        allow_empty: read a row without any text as an empty report instead of refusing it.

    Raises:
        ConfigError: no text column is named, or one of them is also the id.
        DataError: see `read_table`; an id is empty, occurs twice or has blanks around it; a text is
            missing, or is "nan".
    """
    if not text_columns:
        raise ConfigError("--text-column", "names no column", "name at least one column")
    table = read_any_table(path, [*text_columns, *([id_column] if id_column else [])])
    id_column = id_column or first_column(table)
    if id_column in text_columns:
        fact = f"{id_column} is both the id and a text"
        raise ConfigError("--id-column", fact, "name the column of the ids")
    problems = [*_id_problems(table, id_column)]
    problems += _text_problems(table, text_columns, allow_empty=allow_empty)
    refuse(path, problems)
    texts = ("\n\n".join(filter(None, (row.values[c] for c in text_columns))) for row in table.rows)
    ids = tuple(row.values[id_column] for row in table.rows)
    places = tuple(row.place for row in table.rows)
    return ReportTable(path, id_column, ids, (*texts,), places)


def first_column(table: Table) -> str:
    """Name the column that holds the ids unless another one is named."""
    if table.columns and (first := table.columns[0]):
        return first
    there = ", ".join(filter(None, table.columns))
    remedy = f"name the column of the ids (--id-column): there are {there}"
    raise DataError(table.path, "the first column has no name", remedy)


def _id_problems(table: Table, column: str) -> Iterator[str]:
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


def _text_problems(table: Table, columns: Sequence[str], *, allow_empty: bool) -> Iterator[str]:
    for row in table.rows:
        texts = {column: row.values[column].strip() for column in columns}
        for column, text in texts.items():
            if text.lower() in _NOT_A_TEXT:
                yield f"{row.place}, column {column}: {text!r} instead of a text"
        if allow_empty:
            continue
        where = f"{row.place}, column {' and '.join(columns)}"
        if not any(texts.values()):
            yield f"{where}: there is no text"
        elif has_only_headings("\n".join(texts.values())):
            yield f"{where}: there are headings, and nothing that was found"
