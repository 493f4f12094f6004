"""What a folder of CTs and its table hold, found in seconds with the functions of the pipeline.

Rows and CTs are found as the stage `download` does; then CTs are read as `preprocess` does, spread
over the table, until the time is up.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uvlm.config import FolderConfig
from uvlm.data.ct.check import check_ct
from uvlm.data.sets.own.fetch import OwnCt, find_all
from uvlm.data.sets.own.table import OwnRow, read_own_table
from uvlm.errors import DataError
from uvlm.estimates.native import largest_grid
from uvlm.estimates.stages import Cts
from uvlm.evaluation.labeller import get_labeller
from uvlm.text.abnormalities import ABNORMALITIES

_READ_FOR_S: Final = 20.0
_FEWEST_PATIENTS: Final = 3  # one each for training, validation and test
_SHOWN: Final = 10


@dataclass(frozen=True)
class Look:
    """What was found; `refused` has one line for each row or CT that would be left out."""

    table: str
    num_rows: int
    usable: Sequence[OwnRow]
    refused: Sequence[str]
    num_read: int
    cts: Cts
    labels: str
    positives: dict[str, int]

    @property
    def num_patients(self) -> int:
        """Count the patients of the usable rows."""
        return len({row.patient_id for row in self.usable})

    @property
    def longest_report(self) -> int:
        """Count the words of the longest report."""
        return max(len(row.report.text.split()) for row in self.usable)

    def lines(self, patient_column: str | None) -> Iterator[tuple[str, str]]:
        """Yield what people should know, as (name, text)."""
        yield "table", f"{self.table}: {self.num_rows} rows, {len(self.usable)} usable"
        of_own = "" if patient_column else "; every CT counts as a patient (--patient-column)"
        yield "patients", f"{self.num_patients}{of_own}"
        shape = " x ".join(map(str, self.cts.largest))
        yield "CTs", f"{self.num_read} of {self.cts.count} read as training will; up to {shape}"
        found = ", ".join(f"{name} {n}" for name, n in self.positives.items() if n)
        yield "labels", f"{self.labels}: {found or 'nothing abnormal'}"
        yield "refused", "nothing" if not self.refused else f"{len(self.refused)}, left out:"
        yield from (("", line) for line in self.refused[:_SHOWN])
        if len(self.refused) > _SHOWN:
            yield "", f"and {len(self.refused) - _SHOWN} more"


def look(folder: Path, config: FolderConfig, labeller: str, most_refused: float) -> Look:
    """Look at the table and the CTs.

    Args:
        folder: holds both.
        config: the columns of the table.
        labeller: reads the flags if the table has none.
        most_refused: share of refused rows above which the pipeline stops.

    Raises:
        DataError: the table is refused, or too little is left to train on.
    """
    table = folder / config.table
    rows, bad = read_own_table(table, config)
    found, faults = find_all(folder, rows)
    unread, num_read = _unreadable(found)
    refused = {row.case_id: f"{row.case_id}: {row.fact}" for row in (*bad, *faults)} | unread
    usable = [row for row in rows if row.case_id not in refused]
    _refuse_too_few(folder, usable, list(refused.values()), most_refused)
    good = [ct.source for ct in found if ct.case_id not in refused]
    has_flags = usable[0].flags is not None
    return Look(
        table=config.table,
        num_rows=len(rows) + len(bad),
        usable=usable,
        refused=list(refused.values()),
        num_read=num_read,
        cts=Cts(len(good), largest_grid(good)),
        labels="columns of the table" if has_flags else f"read from the reports by `{labeller}`",
        positives=_positives(usable, labeller),
    )


def _unreadable(cts: Sequence[OwnCt]) -> tuple[dict[str, str], int]:
    """Read CTs until the time is up; return what is refused by case, and how many were read."""
    end, refused, count = time.monotonic() + _READ_FOR_S, dict[str, str](), 0
    for ct in _spread(cts):
        if count and time.monotonic() > end:
            break
        count += 1
        if (error := check_ct(ct.source, None).refusal) is not None:
            refused[ct.case_id] = f"{ct.case_id}: {error.fact}; {error.remedy}"
    return refused, count


def _spread(cts: Sequence[OwnCt]) -> Iterator[OwnCt]:
    """Yield every CT once, early ones from all over the list."""
    step = max(1, len(cts) // 8)
    for first in range(step):
        yield from cts[first::step]


def _positives(rows: Sequence[OwnRow], labeller: str) -> dict[str, int]:
    """Count the abnormalities by name."""
    flags = [row.flags for row in rows]
    if any(each is None for each in flags):
        flags = get_labeller(labeller).label([row.report.text for row in rows]).tolist()
    return {
        name: sum(row[number] for row in flags if row is not None)
        for number, name in enumerate(ABNORMALITIES)
    }


def _refuse_too_few(
    folder: Path, usable: Sequence[OwnRow], refused: Sequence[str], most_refused: float
) -> None:
    """Refuse what the pipeline would refuse after minutes."""
    patients = len({row.patient_id for row in usable})
    share = len(refused) / max(1, len(usable) + len(refused))
    fact = ""
    if patients < _FEWEST_PATIENTS:
        fact = f"{patients} usable patients, and training, validation and test need one each"
    elif share > most_refused:
        fact = f"{len(refused)} of {len(usable) + len(refused)} rows would be refused"
        fact += f", more than index.max_quarantined_share {most_refused:g}"
    if fact:
        error = DataError(folder, fact, "see the lines above" if refused else "add CTs and reports")
        error.details = "\n".join(refused[:_SHOWN])
        raise error
