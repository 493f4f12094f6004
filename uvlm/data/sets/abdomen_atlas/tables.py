"""AbdomenAtlas' tables as typed rows: reports with lesion counts, split lists, radiologists' marks.

A count or a mark that is not there is unknown: it makes its row bad, or stays None; never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uvlm.data.sets.abdomen_atlas.layout import is_id
from uvlm.tables import BadRow, TableRow, read_table, refuse

ID: Final = "BDMAP ID"
# In the order of uvlm.text.abnormalities.ABDOMEN_LESIONS.
_COUNTS: Final = (
    "number of liver lesion instances",
    "number of kidney lesion instances",
    "number of pancreatic lesion instances",
)
_MARKED_ORGANS: Final = ("liver", "kidney", "pancreas")
_MARKS: Final = {"Y": True, "N": False, "": None}


@dataclass(frozen=True)
class AtlasRow:
    """One CT: its report, and how many lesions liver, kidneys and pancreas have."""

    case_id: str
    place: str
    report: str
    lesions: tuple[int, int, int]


@dataclass(frozen=True)
class MarkedRow:
    """A radiologist's marks: whether liver, kidney, pancreas have a lesion; None is not marked."""

    case_id: str
    place: str
    lesions: tuple[bool | None, bool | None, bool | None]
    phase: str | None
    note: str

    @property
    def is_marked(self) -> bool:
        """Whether all three organs are."""
        return None not in self.lesions


def read_atlas(path: Path, report: str) -> tuple[list[AtlasRow], list[BadRow]]:
    """Read the table of the set.

    Args:
        path: the table.
        report: which of its reports: structured, narrative, fusion structured, fusion narrative.
    """
    column = f"{report} report"
    rows = read_table(path, (ID, *_COUNTS, column)).rows
    _refuse_textual_counts(path, rows)
    good, bad = [], []
    for row in rows:
        case_id = row.values[ID].strip()
        counts = [_count(row.values[name]) for name in _COUNTS]
        if not is_id(case_id):
            fact = f"{row.place}: {case_id!r} is no BDMAP id"
            bad.append(BadRow(case_id, "bad_id", fact))
        elif None in counts:
            wrong = [f"{n} is {row.values[n]!r}" for n in _COUNTS if _count(row.values[n]) is None]
            bad.append(BadRow(case_id, "no_labels", f"{row.place}: {', '.join(wrong)}"))
        else:
            liver, kidney, pancreas = (count or 0 for count in counts)
            text = row.values[column]
            good.append(AtlasRow(case_id, row.place, text, (liver, kidney, pancreas)))
    return good, bad


def read_ids(path: Path) -> list[str]:
    """Read a list of the official split: the first column of a table, under the name of the id."""
    ids = [row.values[ID].strip() for row in read_table(path, (ID,)).rows]
    problems = [f"{case_id!r} is no BDMAP id" for case_id in ids if not is_id(case_id)]
    refuse(path, problems)
    return ids


def read_marks(path: Path) -> tuple[list[MarkedRow], list[BadRow]]:
    """Read the radiologists' Y and N; blanks around them are meaningless, an empty cell is unknown.

    Raises:
        DataError: a column has no Y and no N at all.
    """
    rows = read_table(path, (ID, *_MARKED_ORGANS, "CT Phase", "Description")).rows
    problems = [
        f"column {organ} holds no Y or N: {rows[0].place} has {rows[0].values[organ]!r}"
        for organ in _MARKED_ORGANS
        if rows and not any(row.values[organ].strip() in ("Y", "N") for row in rows)
    ]
    refuse(path, problems)
    good, bad = [], []
    for row in rows:
        case_id = row.values[ID].strip()
        marks = [row.values[organ].strip() for organ in _MARKED_ORGANS]
        if not is_id(case_id) or not set(marks) <= set(_MARKS):
            bad.append(BadRow(case_id, "bad_label", f"{row.place}: {case_id!r} has {marks}"))
            continue
        liver, kidney, pancreas = (_MARKS[mark] for mark in marks)
        phase, note = row.values["CT Phase"].strip() or None, row.values["Description"].strip()
        good.append(MarkedRow(case_id, row.place, (liver, kidney, pancreas), phase, note))
    return good, bad


def _refuse_textual_counts(path: Path, rows: Sequence[TableRow]) -> None:
    problems = [
        f"column {name} holds no count: {rows[0].place} has {rows[0].values[name]!r}"
        for name in _COUNTS
        if rows and all(_count(row.values[name]) is None for row in rows)
    ]
    refuse(path, problems)


def _count(text: str) -> int | None:
    """Read "2" or "2.0"; None for anything else."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if math.isfinite(number) and number >= 0 and number == int(number) else None
