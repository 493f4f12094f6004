"""A user's own table of reports as typed rows.

    id,report,patient,split,Medical material,...,Interlobular septal thickening
    p01_ct1,"No nodule. ...",p01,train,0,...,1

Only id and report are required; the names of the columns are parameters. Either all 18 columns of
flags are present or none is. An empty cell is never taken for 0.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from uvlm.config import FolderConfig
from uvlm.data.ct.find import without_suffix
from uvlm.tables import BadRow, TableRow, check_flags, flags_of, read_table, refuse
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.report import Report
from uvlm.text.sections import has_only_headings, split_sections

_SAFE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SPLITS: Final = ("train", "test")


@dataclass(frozen=True)
class OwnRow:
    """One CT of the user.

    Args:
        case_id: its id, without a suffix.
        place: the row, in words.
        file: as written in the table.
        patient_id: whose CT it is.
        split: train, test, or None if the table does not say.
        report: its findings and impression.
        flags: None without labels.
        left_out: sections of the text that are not part of the report.
    """

    case_id: str
    place: str
    file: str
    patient_id: str
    split: str | None
    report: Report
    flags: tuple[int, ...] | None
    left_out: tuple[str, ...] = ()


def read_own_table(path: Path, config: FolderConfig) -> tuple[list[OwnRow], list[BadRow]]:
    """Read the table; every row below the header ends up in one of the two lists, under its own id.

    Raises:
        DataError: it is malformed, has some but not all columns of flags, has text in one of
            them, or has a patient in both splits.
    """
    named = (config.impression_column, config.file_column, config.patient_column)
    columns = [config.id_column, config.findings_column, *filter(None, named)]
    columns += [config.split_column] if config.split_column else []
    rows = read_table(path, columns).rows
    labels = _label_columns(path, rows)
    check_flags(path, rows, labels)
    parsed = [_parse(row, config, labels) for row in rows]
    good = [row for row in parsed if isinstance(row, OwnRow)]
    bad = [row for row in parsed if isinstance(row, BadRow)]
    _refuse_split_patients(path, good)
    counts = Counter(row.case_id for row in parsed)
    for row in good:
        if counts[row.case_id] > 1:
            fact = f"{row.place}: the id {row.case_id} occurs {counts[row.case_id]} times"
            bad.append(BadRow(row.case_id, "duplicate_id", fact))
    return [row for row in good if counts[row.case_id] == 1], _one_each(bad)


def _parse(row: TableRow, config: FolderConfig, labels: tuple[str, ...]) -> OwnRow | BadRow:
    written = row.values[config.id_column].strip()
    case_id = without_suffix(written)
    if not _SAFE_ID.fullmatch(case_id):
        fact = f"{row.place}: the id {written!r} may only have letters, digits, dots, - and _"
        return BadRow(case_id or row.place, "bad_id", fact)
    impression = row.values[config.impression_column] if config.impression_column else ""
    findings = row.values[config.findings_column]
    sectioned = split_sections(findings, impression)
    if sectioned.report.is_empty or has_only_headings(f"{findings}\n{impression}"):
        beside = f" beside {', '.join(sectioned.left_out)}" if sectioned.left_out else ""
        return BadRow(case_id, "empty_report", f"{row.place}: there is no report{beside}")
    split = row.values[config.split_column].strip().lower() if config.split_column else None
    if split is not None and split not in _SPLITS:
        fact = f"{row.place}: {config.split_column} is {split!r}, not train or test"
        return BadRow(case_id, "bad_split", fact)
    patient = row.values[config.patient_column].strip() if config.patient_column else case_id
    if not patient:
        return BadRow(case_id, "no_patient", f"{row.place}: {config.patient_column} is empty")
    flags = flags_of(row, labels) if labels else None
    if isinstance(flags, str):
        return BadRow(case_id, "bad_label", flags)
    file = row.values[config.file_column].strip() if config.file_column else written
    return OwnRow(
        case_id, row.place, file, patient, split, sectioned.report, flags, sectioned.left_out
    )


def _label_columns(path: Path, rows: Sequence[TableRow]) -> tuple[str, ...]:
    """Find the 18 columns of flags: all of them or none."""
    there = [name for name in ABNORMALITIES if rows and name in rows[0].values]
    if not there:
        return ()
    missing = [name for name in ABNORMALITIES if name not in there]
    refuse(path, [f"column {name} is missing beside {there[0]}" for name in missing])
    return ABNORMALITIES


def _refuse_split_patients(path: Path, rows: list[OwnRow]) -> None:
    """Refuse patients who are in both splits: nobody can guess which one is meant."""
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row.patient_id, set()).add(row.split or "")
    both = sorted(patient for patient, found in splits.items() if len(found) > 1)
    refuse(path, [f"patient {patient} is in train and test" for patient in both])


def _one_each(bad: list[BadRow]) -> list[BadRow]:
    """Give each row its own id: those that share one are told apart by a number."""
    seen: Counter[str] = Counter()
    result = []
    for row in bad:
        seen[row.case_id] += 1
        number = f"#{seen[row.case_id]}" if seen[row.case_id] > 1 else ""
        result.append(replace(row, case_id=row.case_id + number))
    return result
