"""Anybody's references, predictions and labels, read whole or refused with row and column.

Predictions are a CSV table or our JSON lines (`.jsonl`, see text/predictions.py). Two text columns
whose names begin with Findings and Impression become one report with its headings; others are
joined by a space. An id may carry `.nii.gz` in one table and not in another.

N cases, A abnormalities.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from uvlm.arrays import Flags
from uvlm.errors import ConfigError, DataError
from uvlm.evaluation.predictions import AlignedPredictions
from uvlm.tables import FLAGS, Table, read_table, refuse
from uvlm.text.abnormalities import ABDOMEN_LESIONS, ABNORMALITIES
from uvlm.text.predictions import CasePrediction, load_predictions
from uvlm.text.report import Report
from uvlm.text.report_table import read_report_table

_KNOWN_TEXT_COLUMNS: Final = (
    ("Findings_EN", "Impressions_EN"),
    ("report",),
    ("report_text",),
    ("reports",),
    ("text",),
)
_PATIENT_COLUMN: Final = "patient_id"
_CT_RATE_PATIENT: Final = re.compile(r"((?:train|valid)_\d+)_")


@dataclass(frozen=True)
class Columns:
    """Where a table keeps its ids and texts; None and () are looked up by their usual names."""

    id: str | None = None
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Texts:
    """Reports by id, in the order of their table."""

    path: Path
    id_column: str
    text_columns: tuple[str, ...]
    by_id: dict[str, str]


@dataclass(frozen=True, eq=False)
class Labels:
    """(N, A) labels of ids in a given order, and the A abnormalities they are of."""

    names: tuple[str, ...]
    values: Flags
    num_unused: int = 0


def read_texts(path: Path, columns: Columns, *, allow_empty: bool = False) -> Texts:
    """Read a CSV table of reports.

    Raises:
        ConfigError: the columns are not named and none has a usual name.
        DataError: see `read_report_table`; or two ids differ by `.nii.gz` only, or no row is there.
    """
    chosen = columns.texts or usual_text_columns(read_table(path))
    table = read_report_table(path, chosen, columns.id, allow_empty=allow_empty)
    if not table.ids:
        raise DataError(path, "the table has a header and no row", "nothing can be scored")
    parts = [
        read_report_table(path, [column], table.id_column, allow_empty=True).texts
        for column in chosen
    ]
    ids = _stripped(path, table.id_column, table.ids)
    texts = [_joined(chosen, row) for row in zip(*parts, strict=True)]
    return Texts(path, table.id_column, chosen, dict(zip(ids, texts, strict=True)))


def usual_text_columns(table: Table) -> tuple[str, ...]:
    """Find the columns that tables of this field keep reports in."""
    for names in _KNOWN_TEXT_COLUMNS:
        if all(name in table.columns for name in names):
            return names
    there = ", ".join(table.columns)
    raise ConfigError(table.path, f"which column holds the report? There are {there}", "name it")


def read_aligned(path: Path, columns: Columns, references: Texts) -> AlignedPredictions:
    """Read predictions, CSV or JSON lines, and line them up with the references.

    Raises:
        DataError: a prediction belongs to no reference.
    """
    if path.suffix == ".jsonl":
        loaded = load_predictions(path)
        places = [f"line {number}, case_id" for number, _ in enumerate(loaded, start=1)]
        ids = _stripped(path, "case_id", [p.case_id for p in loaded])
        by_id = dict(zip(ids, loaded, strict=True))
    else:
        table = read_texts(path, columns, allow_empty=True)
        by_id = {case: CasePrediction(case, "", text) for case, text in table.by_id.items()}
        places = [f"row {number}, column {table.id_column}" for number in range(1, len(by_id) + 1)]
    extra = [
        f"{place}: {case!r} is not among the references"
        for place, case in zip(places, by_id, strict=True)
        if case not in references.by_id
    ]
    refuse(path, extra)
    return AlignedPredictions(path, tuple(by_id.get(case) for case in references.by_id))


def read_labels(path: Path, id_column: str | None, case_ids: Sequence[str]) -> Labels:
    """Read one 0 or 1 per case and abnormality; the columns decide which abnormalities.

    Raises:
        DataError: a column is missing, a value is neither 0 nor 1, or a case has no row.
    """
    table = read_table(path, [id_column] if id_column else [])
    names = label_names(table)
    column = id_column or table.columns[0]
    ids = _stripped(path, column, [row.values[column] for row in table.rows])
    problems = [
        f"{row.place}, column {name}: {row.values[name]!r} is neither 0 nor 1"
        for row in table.rows
        for name in names
        if row.values[name].strip() not in FLAGS
    ]
    known = set(ids)
    problems += [f"column {column}: no row for {case!r}" for case in case_ids if case not in known]
    refuse(path, problems)
    by_id = {
        case: [FLAGS[row.values[name].strip()] for name in names]
        for case, row in zip(ids, table.rows, strict=True)
    }
    values = np.asarray([by_id[case] for case in case_ids], dtype=bool)
    return Labels(names, values, len(known) - len(case_ids))


def label_names(table: Table) -> tuple[str, ...]:
    """Tell which label set a table holds; all of its columns must be there."""
    sets = (ABNORMALITIES, ABDOMEN_LESIONS)
    closest = max(sets, key=lambda names: sum(name in table.columns for name in names) / len(names))
    lacking = [f"column {name} is missing" for name in closest if name not in table.columns]
    refuse(table.path, lacking)
    return closest


def patients_of(path: Path, id_column: str, named: str | None) -> tuple[dict[str, str], str]:
    """Give every case its patient, and say in words where that comes from.

    Raises:
        DataError: a patient id is empty.
    """
    table = read_table(path, [named] if named else [])
    column = named or (_PATIENT_COLUMN if _PATIENT_COLUMN in table.columns else None)
    ids = _stripped(path, id_column, [row.values[id_column] for row in table.rows])
    if column:
        values = [row.values[column].strip() for row in table.rows]
        empty = [
            f"{row.place}, column {column}: no patient"
            for row, value in zip(table.rows, values, strict=True)
            if not value
        ]
        refuse(path, empty)
        return dict(zip(ids, values, strict=True)), f"column {column}"
    matches = [_CT_RATE_PATIENT.match(case) for case in ids]
    if all(matches):
        patients = [match.group(1) for match in matches if match]
        return dict(zip(ids, patients, strict=True)), "CT-RATE's ids"
    return {case: case for case in ids}, "every case taken for a patient of its own"


def _stripped(path: Path, column: str, ids: Sequence[str]) -> list[str]:
    """Take `.nii.gz` away; refuse ids that come twice."""
    stripped = [case.removesuffix(".nii.gz") for case in ids]
    first: dict[str, int] = {}
    problems = []
    for number, case in enumerate(stripped, start=1):
        if case in first:
            twice = (
                f"row {number}, column {column}: the id {case!r} is already in row {first[case]}"
            )
            problems.append(twice)
        first.setdefault(case, number)
    refuse(path, problems)
    return stripped


def _joined(columns: Sequence[str], parts: Sequence[str]) -> str:
    lowered = [column.lower() for column in columns]
    if len(parts) == 2 and lowered[0].startswith("finding") and lowered[1].startswith("impression"):
        return Report(*parts).text
    return " ".join(part for part in parts if part)
