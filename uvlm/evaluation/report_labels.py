"""`uvlm label`: a CSV of anybody's reports in, a CSV of labels out.

Its columns are the id, then the abnormalities, named and ordered as the data set does. 1 is present
and 0 absent; with `--keep-uncertain` and a labeller that knows doubt, -1 is uncertain.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from uvlm.arrays import Counts
from uvlm.errors import ConfigError
from uvlm.evaluation.labeller import DoubtingLabeller, Labeller, check_language_for
from uvlm.files import write_text_atomic
from uvlm.text.abnormalities import ABDOMEN_LESIONS, ABNORMALITIES
from uvlm.text.known_words import OtherLanguageError, count_known
from uvlm.text.report_table import ReportTable

LABEL_SETS: Final = {"chest": ABNORMALITIES, "abdomen": ABDOMEN_LESIONS}


def label_set_named(name: str) -> tuple[str, ...]:
    """Look up the abnormalities that `--label-set` names."""
    if name not in LABEL_SETS:
        raise ConfigError("--label-set", f"there is no {name!r}", f"use {' or '.join(LABEL_SETS)}")
    return LABEL_SETS[name]


@dataclass(frozen=True)
class LabelSummary:
    """What was written, for the line that the command prints."""

    num_reports: int
    num_positive: dict[str, int]
    num_uncertain: int
    known_share: float
    usage: dict[str, float]


def label_table(
    reports: ReportTable,
    labeller: Labeller,
    abnormalities: Sequence[str],
    out: Path,
    *,
    keep_uncertain: bool = False,
) -> LabelSummary:
    """Label every report and write the table whole or not at all.

    Uncertain labels are counted; unless kept as -1, they are written as present.

    Raises:
        ConfigError: `out` is the table that is read, or the id column is called like a label.
        DataError: the labeller reads English only, and some reports hardly are English.
    """
    if out.resolve() == reports.path.resolve():
        raise ConfigError("--out", f"{out} is the table that is read", "name another file")
    if reports.id_column in abnormalities:
        fact = f"{reports.id_column} is also the name of a label"
        raise ConfigError("--id-column", fact, "name the column that holds the ids")
    check_reports(labeller, reports)
    doubting = labeller if isinstance(labeller, DoubtingLabeller) else None
    answers = doubting.answers(reports.texts) if doubting else labeller.label(reports.texts)
    labels = answers if keep_uncertain else np.abs(answers)
    try:
        write_text_atomic(out, _as_csv(reports, abnormalities, labels))
    except OSError as error:
        raise ConfigError("--out", f"{out} cannot be written ({error.strerror})") from None
    positives = (labels == 1).sum(axis=0).tolist()
    return LabelSummary(
        num_reports=len(labels),
        num_positive=dict(zip(abnormalities, positives, strict=True)),
        num_uncertain=int((answers == -1).sum()),
        known_share=count_known(reports.texts).share,
        usage=doubting.usage if doubting else {},
    )


def check_reports(labeller: Labeller, reports: ReportTable) -> None:
    """Refuse reports in a language that the labeller does not read."""
    try:
        check_language_for(labeller, reports.texts)
    except OtherLanguageError as error:
        pairs = zip(reports.places, reports.ids, strict=True)
        places = [f"{place}, {reports.id_column} {case}" for place, case in pairs]
        raise error.at(reports.path, places) from None


def _as_csv(reports: ReportTable, abnormalities: Sequence[str], labels: Counts) -> str:
    rows = zip(reports.ids, labels.tolist(), strict=True)
    table = [[reports.id_column, *abnormalities], *([case_id, *row] for case_id, row in rows)]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()
