"""Reports in JSON, as rows of a table: the challenge's file of predictions, lists, JSON lines.

    {"name": "Generated reports", "generated_reports": [{"input_image_name": ..., "report": ...}]}
    [{"input_image_name": ..., "report": ...}]
    {"case_id": ..., "report": ...}       one object a line

The document of the VLM3D challenge is an object that holds one list of objects; what else it says
is left aside. The column of the ids comes first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from uvlm.errors import DataError
from uvlm.tables import Table, TableRow, refuse

_ID_KEYS: Final = ("input_image_name", "case_id")
_REMEDY: Final = "write it as the list of objects that docs/evaluation.md shows, or as CSV"


def is_json(text: str) -> bool:
    """Whether a file of reports is JSON and no CSV."""
    return text.lstrip().startswith(("{", "["))


def holds_a_list(text: str) -> bool:
    """Whether JSON is one document with a list of entries, and not lines of objects."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, list) or bool(_lists_in(document))


def read_json_table(path: Path, text: str, columns: Sequence[str] = ()) -> Table:
    """Read entries that have at least these columns.

    Raises:
        DataError: it is not JSON, has no list of objects or more than one, or an entry lacks a
            column or holds something else than a text there.
    """
    entries = [*_entries(path, text)]
    problems = [f"{place} is no object" for place, entry in entries if not isinstance(entry, dict)]
    refuse(path, problems or ([] if entries else ["there is no entry"]), _REMEDY)
    keys = dict.fromkeys(key for _, entry in entries for key in entry)
    named = sorted(keys, key=lambda key: key not in _ID_KEYS)  # sorted is stable
    missing = [column for column in columns if column not in keys]
    problems = [f"no entry has {column}; there are {', '.join(named)}" for column in missing]
    refuse(path, problems)
    wrong = (p for place, e in entries for p in _problems(place, e, columns))
    refuse(path, [*wrong])
    rows = [TableRow(n, 0, _cells(entry, named)) for n, (_, entry) in enumerate(entries, start=1)]
    return Table(path, tuple(named), tuple(rows))


def _problems(place: str, entry: Mapping[str, Any], columns: Sequence[str]) -> Iterator[str]:
    for column in columns:
        if column not in entry:
            yield f"{place} has no {column}"
        elif not isinstance(entry[column], str | int | float):
            yield f"{place}: {column} is {json.dumps(entry[column])[:60]}, not a text"


def _cells(entry: Mapping[str, Any], columns: Sequence[str]) -> dict[str, str]:
    cells = {column: entry.get(column) for column in columns}
    return {
        column: cell if isinstance(cell, str) else "" if cell is None else json.dumps(cell)
        for column, cell in cells.items()
    }


def _entries(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    """Yield the place and the content of every entry."""
    # Only "\n" ends a line: str.splitlines would cut reports at U+2028 and the like.
    lines = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not _is_json(lines[0][1]):
            raise DataError(path, f"is not JSON ({error})", _REMEDY) from None
        yield from ((f"line {n}", _parsed(path, line, n)) for n, line in lines)
        return
    lists = _lists_in(document)
    if len(lists) > 1:
        fact = f"holds {len(lists)} lists of objects: {', '.join(lists)}"
        raise DataError(path, fact, "leave one of them")
    name, found = next(iter(lists.items()), ("", document))
    yield from ((f"{name}[{n}]", e) for n, e in enumerate(_listed(found)))


def _listed(document: Any) -> list[Any]:
    return document if isinstance(document, list) else [document]


def _parsed(path: Path, line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(path, f"line {number} is not JSON ({error})", _REMEDY) from None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _lists_in(document: Any) -> dict[str, list[Any]]:
    """Find the lists of objects in a document, by name; an entry itself holds none."""
    if not isinstance(document, dict) or not document.keys().isdisjoint(_ID_KEYS):
        return {}
    lists = {key: value for key, value in document.items() if isinstance(value, list)}
    return {key: found for key, found in lists.items() if any(isinstance(e, dict) for e in found)}
