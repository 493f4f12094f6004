"""Anybody's references, predictions and labels, read whole or refused with row and column.

Predictions are a CSV table, our JSON lines (`.jsonl`, see text/predictions.py) or other JSON
(text/report_json.py). Two text columns whose names begin with Findings and Impression become one
report with its headings; others are joined by a space. An id may end in `.nii.gz`, or in the suffix
of another CT file, in one table and not in another.

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
from uvlm.evaluation.reference import TextLabels
from uvlm.tables import Table, flags_of, read_text, refuse
from uvlm.text.abnormalities import ABDOMEN_LESIONS, ABNORMALITIES
from uvlm.text.known_words import OtherLanguageError
from uvlm.text.predictions import CasePrediction, load_predictions
from uvlm.text.report_json import holds_a_list
from uvlm.text.report_table import first_column, read_any_table, read_report_table
from uvlm.text.sections import report_of_columns

_KNOWN_TEXT_COLUMNS: Final = (
    *(("Findings_EN", "Impressions_EN"), ("report",), ("report_text",), ("reports",), ("text",)),
)
_SUFFIX: Final = re.compile(r"\.(nii\.gz|nii|mha|nrrd)$", re.IGNORECASE)
_CT_RATE_PATIENT: Final = re.compile(r"((?:train|valid)_\d+)_")


@dataclass(frozen=True)
class Columns:
    """Where a table keeps its ids and texts; None is the first column, () the usual names."""

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
    """(N, A) labels of cases in a given order, and the A abnormalities that they are of."""

    names: tuple[str, ...]
    values: Flags
    num_unused: int = 0


def read_texts(path: Path, columns: Columns, *, allow_empty: bool = False) -> Texts:
    """Read a CSV table of reports.

    Raises:
        ConfigError: no text column is named and none has a usual name.
        DataError: see `read_report_table`; or two ids differ by the suffix only, or no row.
    """
    chosen = columns.texts or usual_text_columns(read_any_table(path))
    table = read_report_table(path, chosen, columns.id, allow_empty=allow_empty)
    if not table.ids:
        raise DataError(path, "the table has a header and no row", "nothing can be scored")
    ids = _stripped(path, table.id_column, table.ids)
    rows = read_any_table(path).rows
    texts = [_joined(chosen, [row.values[column] for column in chosen]) for row in rows]
    return Texts(path, table.id_column, chosen, dict(zip(ids, texts, strict=True)))


def usual_text_columns(table: Table) -> tuple[str, ...]:
    """Find the columns that tables of the field usually keep reports in."""
    for names in _KNOWN_TEXT_COLUMNS:
        if {*names} <= {*table.columns}:
            return names
    there = ", ".join(table.columns)
    raise ConfigError(table.path, f"which column holds the report? There are {there}", "name it")


def read_aligned(path: Path, columns: Columns, references: Texts) -> AlignedPredictions:
    """Read predictions, CSV or JSON, and line them up with the references.

    Raises:
        DataError: a prediction belongs to no reference.
    """
    if path.suffix == ".jsonl" and not holds_a_list(read_text(path)):
        loaded = load_predictions(path)
        unit, column = "line", "case_id"
        ids = _stripped(path, column, [p.case_id for p in loaded])
        by_id = dict(zip(ids, loaded, strict=True))
    else:
        table = read_texts(path, columns, allow_empty=True)
        unit, column = "row", f"column {table.id_column}"
        by_id = {case: CasePrediction(case, "", text) for case, text in table.by_id.items()}
    extra = [
        f"{unit} {number}, {column}: {case!r} is not among the references"
        for number, case in enumerate(by_id, start=1)
        if case not in references.by_id
    ]
    refuse(path, extra)
    return AlignedPredictions(path, tuple(by_id.get(case) for case in references.by_id))


def read_labels(path: Path, id_column: str | None, case_ids: Sequence[str]) -> Labels:
    """Read one 0 or 1 per case and abnormality; the columns decide which abnormalities.

    Raises:
        DataError: a column is missing, a value is neither 0 nor 1, or a case has no row.
    """
    table = read_any_table(path, [id_column] if id_column else [])
    names = label_names(table)
    column = id_column or first_column(table)
    ids = _stripped(path, column, [row.values[column] for row in table.rows])
    by_id = {case: flags_of(row, names) for case, row in zip(ids, table.rows, strict=True)}
    problems = [flags for flags in by_id.values() if isinstance(flags, str)]
    problems += [f"column {column}: no row for {case!r}" for case in case_ids if case not in by_id]
    refuse(path, problems)
    values = np.asarray([by_id[case] for case in case_ids], dtype=bool)
    return Labels(names, values, len(by_id) - len(case_ids))


def labels_of(texts: Texts, label: TextLabels) -> Flags:
    """Let a labeller read true reports; one in another language is refused by its id."""
    try:
        return label.of_people([*texts.by_id.values()])
    except OtherLanguageError as error:
        places = [f"{texts.id_column} {case}" for case in texts.by_id]
        raise error.at(texts.path, places, "; or give their labels") from None


def label_names(table: Table) -> tuple[str, ...]:
    """Tell which set of labels a table holds; refuse it if one of them is missing."""
    sets = (ABNORMALITIES, ABDOMEN_LESIONS)
    closest = max(sets, key=lambda names: sum(name in table.columns for name in names) / len(names))
    lacking = [f"column {name} is missing" for name in closest if name not in table.columns]
    refuse(table.path, lacking)
    return closest


def patients_of(path: Path, id_column: str, named: str | None) -> tuple[dict[str, str], str]:
    """Tell the patient of every case, and in words where that is known from.

    Raises:
        DataError: a patient id is empty.
    """
    table = read_any_table(path, [named] if named else [])
    column = named or ("patient_id" if "patient_id" in table.columns else None)
    ids = _stripped(path, id_column, [row.values[id_column] for row in table.rows])
    if column:
        patients = [row.values[column].strip() for row in table.rows]
        places = [
            row.place for row, patient in zip(table.rows, patients, strict=True) if not patient
        ]
        refuse(path, [f"{place}, column {column}: no patient" for place in places])
        return dict(zip(ids, patients, strict=True)), f"column {column}"
    matches = {case: _CT_RATE_PATIENT.match(case) for case in ids}
    found = {case: match[1] for case, match in matches.items() if match}
    if len(found) == len(ids):
        return found, "CT-RATE's ids"
    return {case: case for case in ids}, "every case taken for a patient of its own"


def _stripped(path: Path, column: str, ids: Sequence[str]) -> list[str]:
    """Take the suffix of a CT away; refuse ids that come twice."""
    stripped = [_SUFFIX.sub("", case) for case in ids]
    first: dict[str, int] = {}
    problems = [
        f"row {number}, column {column}: the id {case!r} is already in row {first[case]}"
        for number, case in enumerate(stripped, start=1)
        if first.setdefault(case, number) != number
    ]
    refuse(path, problems)
    return stripped


def _joined(columns: Sequence[str], parts: Sequence[str]) -> str:
    lowered = [column.lower() for column in columns]
    if len(parts) == 2 and lowered[0].startswith("finding") and lowered[1].startswith("impression"):
        return report_of_columns(*parts).text
    return " ".join(filter(None, parts))
