"""What a folder of CTs and its table hold, found in seconds with the functions of the pipeline.

Rows and CTs are found as the stage `download` does; then CTs are read and compared as `preprocess`
and `audit` do, spread over the table, until the time is up.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

from uvlm.config import FolderConfig, Params
from uvlm.data.ct.volume import ReadError
from uvlm.data.leaks.likeness import decode, nearest
from uvlm.data.preprocess import make_cached
from uvlm.data.sets.own.find import OwnCt, OwnFolder, find_own
from uvlm.data.sets.own.table import OwnRow, read_own_table
from uvlm.errors import DataError
from uvlm.estimates.largest_ct import largest_grid
from uvlm.estimates.stages import Cts
from uvlm.evaluation.labeller import check_language_for, get_labeller
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.known_words import OtherLanguageError, check_language

Note = dict[str, Any]  # of a CT that was read: its grid, its likeness

_READ_FOR_S: Final = 20.0
_FEWEST_PATIENTS: Final = 3  # one each for training, validation and test
_SHOWN: Final = 10
_CHEST: Final = re.compile(
    r"\b(lungs?|lobes?|lingula|pulmonary|pleura\w*|mediastin\w*|thora\w*|chest|heart|pericardi\w*|"
    r"bronch\w*)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Look:
    """What was found; `refused` has one line for each row or CT that would be left out."""

    table: str
    num_rows: int
    usable: Sequence[OwnRow]
    refused: Sequence[str]
    unnamed: int
    num_read: int
    alike: Sequence[str]
    cts: Cts
    labels: str
    positives: Mapping[str, int]

    @property
    def longest_report(self) -> int:
        """Count the words of the longest report."""
        return max(len(row.report.text.split()) for row in self.usable)

    def lines(self, patient_column: str | None) -> Iterator[tuple[str, str]]:
        """Yield what people should know, as (name, text)."""
        yield "table", f"{self.table}: {self.num_rows} rows, {len(self.usable)} usable"
        of_own = "" if patient_column else ", one for each CT (or set --patient-column)"
        yield "patients", f"{_num_patients(self.usable)}{of_own}"
        shape = " x ".join(map(str, self.cts.largest))
        yield "CTs", f"{self.num_read} of {self.cts.count} were read and accepted; up to {shape}"
        if self.unnamed:
            yield "", f"{self.unnamed} more in the folder are named by no row"
        yield (
            "reports",
            f"{_num_of_chests(self.usable)} of {len(self.usable)} look like English chest CT",
        )
        found = ", ".join(f"{name} {n}" for name, n in self.positives.items() if n)
        yield "labels", f"{self.labels}: {found or 'nothing abnormal'}"
        yield from _listed("alike", self.alike, "the audit stops if they are in different splits:")
        yield from _listed("refused", self.refused, "left out:")


def look(folder: Path, config: FolderConfig, params: Params) -> Look:
    """Look at the table and the CTs.

    Args:
        folder: holds both.
        config: the columns of the table.
        params: how CTs are prepared and compared, reports labelled, and how many may be refused.

    Raises:
        DataError: the table is refused, or too little is left to train on.
    """
    rows, bad = read_own_table(folder / config.table, config)
    below = OwnFolder.of(folder)
    candidates = below.candidates(rows, by_path=config.file_column is not None)
    found = [find_own(each) for each in candidates]
    faults = [each for each in found if not isinstance(each, OwnCt)]
    paths = {
        ct.case_id: _path(ct, each.paths)
        for ct, each in zip(found, candidates, strict=True)
        if isinstance(ct, OwnCt)
    }
    notes, unreadable = _read(paths, params)
    refused = {row.case_id: f"{row.case_id}: {row.fact}" for row in (*bad, *faults)} | unreadable
    usable = [row for row in rows if row.case_id not in refused]
    _refuse_too_few(folder, usable, [*refused.values()], params.index.max_quarantined_share)
    grids = [tuple(note["native"]["shape"]) for note in notes.values()]
    unread = [path for case_id, path in paths.items() if case_id not in {*refused, *notes}]
    grids += [largest_grid(unread)] if unread else []
    labeller = params.evaluate.labeller
    has_flags = usable[0].flags is not None
    return Look(
        table=config.table,
        num_rows=len(rows) + len(bad),
        usable=usable,
        refused=[*refused.values()],
        unnamed=below.unnamed(candidates),
        num_read=len(notes),
        alike=[*_alike(notes, usable, params.audit.near_duplicate)],
        cts=Cts(len(notes) + len(unread), max(grids, key=prod)),
        labels="columns of the table" if has_flags else f"read from the reports by `{labeller}`",
        positives=_positives(folder / config.table, usable, labeller),
    )


def _path(ct: OwnCt, candidates: Sequence[Path]) -> Path:
    """Find the file, or the candidate folder that holds the series."""
    first = ct.origin.paths[0]
    return next((path for path in candidates if path in first.parents), first)


def _read(paths: Mapping[str, Path], params: Params) -> tuple[dict[str, Note], dict[str, str]]:
    """Read CTs until the time is up: notes on the good ones, refusals of others, by case."""
    end = time.monotonic() + _READ_FOR_S
    notes, refused = dict[str, Note](), dict[str, str]()
    for case_id in _spread([*paths]):
        if notes and time.monotonic() > end:
            break
        try:
            notes[case_id] = make_cached(paths[case_id], params.preprocess)[1]
        except ReadError as error:
            refused[case_id] = f"{case_id}: {error.fact}; {error.remedy}"
    return notes, refused


def _spread(ids: Sequence[str]) -> Iterator[str]:
    """Yield every id once, early ones from all over the list."""
    step = max(1, len(ids) // 8)
    for first in range(step):
        yield from ids[first::step]


def _alike(notes: Mapping[str, Note], rows: Sequence[OwnRow], limit: float) -> Iterator[str]:
    """Find CTs of two patients that are nearly the same image, as the audit does."""
    patients = {row.case_id: row.patient_id for row in rows}
    ids = [case_id for case_id in notes if case_id in patients]
    images = decode([notes[case_id]["fingerprint"] for case_id in ids])
    for number, one in enumerate(ids[:-1]):
        (distance,), (index,) = nearest(images[number : number + 1], images[number + 1 :])
        other = ids[number + 1 + int(index)]
        if distance < limit and patients[one] != patients[other]:
            yield f"{one} and {other} are nearly the same image ({distance:.3f} apart)"


def _positives(table: Path, rows: Sequence[OwnRow], labeller: str) -> dict[str, int]:
    """Count the abnormalities by name, of the table or as the labeller reads them."""
    flags = [row.flags for row in rows if row.flags is not None]
    if not flags:
        texts, reader = [row.report.text for row in rows], get_labeller(labeller)
        try:
            check_language_for(reader, texts)
        except OtherLanguageError as error:
            raise error.at(table, [row.place for row in rows]) from None
        flags = [tuple(row) for row in reader.label(texts).tolist()]
    return {name: sum(row[n] for row in flags) for n, name in enumerate(ABNORMALITIES)}


def _num_of_chests(rows: Sequence[OwnRow]) -> int:
    """Count the reports that are English and name what is in a chest."""
    texts = [row.report.text for row in rows]
    try:
        check_language(texts)
    except OtherLanguageError as error:
        foreign = {number for number, _ in error.facts}
        texts = [text for number, text in enumerate(texts) if number not in foreign]
    return sum(_CHEST.search(text) is not None for text in texts)


def _num_patients(rows: Sequence[OwnRow]) -> int:
    return len({row.patient_id for row in rows})


def _listed(name: str, lines: Sequence[str], what: str) -> Iterator[tuple[str, str]]:
    yield name, f"{len(lines)}, {what}" if lines else "nothing"
    yield from (("", line) for line in lines[:_SHOWN])
    if len(lines) > _SHOWN:
        yield "", f"and {len(lines) - _SHOWN} more"


def _refuse_too_few(
    folder: Path, usable: Sequence[OwnRow], refused: Sequence[str], most_refused: float
) -> None:
    """Refuse what the pipeline would refuse after minutes."""
    count = len(usable) + len(refused)
    fact = ""
    if _num_patients(usable) < _FEWEST_PATIENTS:
        fact = f"{_num_patients(usable)} usable patients, and training, validation and test need"
        fact += " one each"
    elif len(refused) > most_refused * count:
        fact = f"{len(refused)} of {count} rows would be refused"
        fact += f", more than index.max_quarantined_share {most_refused:g}"
    if fact:
        error = DataError(folder, fact, "see the lines above" if refused else "add CTs and reports")
        error.details = "\n".join(refused[:_SHOWN])
        raise error
