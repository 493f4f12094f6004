"""AbdomenAtlas' tables as typed rows: reports with lesion counts, and the lists of the split.

A missing count is unknown, never 0: it makes its row bad.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uvlm.data.sets.abdomen_atlas.layout import is_id
from uvlm.tables import BadRow, read_table, refuse

ID: Final = "BDMAP ID"
# In the order of uvlm.text.abnormalities.ABDOMEN_LESIONS.
COUNTS: Final = (
    "number of liver lesion instances",
    "number of kidney lesion instances",
    "number of pancreatic lesion instances",
)


@dataclass(frozen=True)
class AtlasRow:
    """One CT: its report, and the number of lesions in liver, kidneys and pancreas."""

    case_id: str
    place: str
    report: str
    lesions: tuple[int, int, int]


def read_atlas(path: Path, report: str) -> tuple[list[AtlasRow], list[BadRow]]:
    """Read the table of the set.

    Args:
        path: the table.
        report: structured, narrative, fusion structured or fusion narrative.
    """
    column = f"{report} report"
    rows = read_table(path, (ID, *COUNTS, column)).rows
    problems = [
        f"column {name} holds no count: {rows[0].place} has {rows[0].values[name]!r}"
        for name in COUNTS
        if rows and all(_count(row.values[name]) is None for row in rows)
    ]
    refuse(path, problems)
    good, bad = [], []
    for row in rows:
        case_id = row.values[ID].strip()
        counts = [_count(row.values[name]) for name in COUNTS]
        wrong = [f"{n} is {row.values[n]!r}" for n in COUNTS if _count(row.values[n]) is None]
        if not is_id(case_id):
            bad.append(BadRow(case_id, "bad_id", f"{row.place}: {case_id!r} is not a BDMAP id"))
        elif wrong:
            bad.append(BadRow(case_id, "no_labels", f"{row.place}: {', '.join(wrong)}"))
        else:
            liver, kidney, pancreas = (count or 0 for count in counts)
            text = row.values[column]
            good.append(AtlasRow(case_id, row.place, text, (liver, kidney, pancreas)))
    return good, bad


def read_ids(path: Path) -> list[str]:
    """Read a list of the official split: the column of ids."""
    ids = [row.values[ID].strip() for row in read_table(path, (ID,)).rows]
    problems = [f"{case_id!r} is not a BDMAP id" for case_id in ids if not is_id(case_id)]
    refuse(path, problems)
    return ids


def _count(text: str) -> int | None:
    """Parse "2" or "2.0"; None for anything else."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if math.isfinite(number) and number >= 0 and number == int(number) else None
