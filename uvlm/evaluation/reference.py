"""What reports are scored against, and what a labeller reads out of texts.

N cases, A abnormalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Flags, Floats
from uvlm.errors import DataError
from uvlm.evaluation.bootstrap import Resamples
from uvlm.evaluation.labeller import (
    DoubtingLabeller,
    Labeller,
    check_language_for,
    get_impression_reader,
)
from uvlm.evaluation.missing import is_missing, wrong_claims
from uvlm.files import read_json
from uvlm.text.sections import split_sections

DEFAULT_THRESHOLD: Final = 0.5


@dataclass(frozen=True, eq=False)
class Reference:
    """N cases: what is true of them, and how they may be resampled.

    Args:
        case_ids: in the order of every array of cases.
        patient_ids: whose case it is.
        texts: the reference reports.
        names: the A abnormalities.
        labels: (N, A) truth.
        resamples: of the patients.
    """

    case_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    texts: tuple[str, ...]
    names: tuple[str, ...]
    labels: Flags
    resamples: Resamples

    def claims(self, texts: Sequence[str], label: TextLabels) -> Flags:
        """Abnormalities that N reports claim, (N, A); a missing report is wrong in every class."""
        return wrong_claims(self.labels, label(texts), is_missing(texts))

    def size(self, num_missing: int) -> dict[str, int]:
        """Count cases, patients and cases without a prediction."""
        num_patients = len(set(self.patient_ids))
        return {"n": len(self.case_ids), "n_patients": num_patients, "n_missing": num_missing}


class TextLabels:
    """A labeller that reads no text twice."""

    def __init__(self, labeller: Labeller) -> None:
        self._labeller = labeller
        self._known: dict[str, npt.NDArray[np.int64]] = {}

    @property
    def name(self) -> str:
        """The labeller's name."""
        return self._labeller.name

    def __call__(self, texts: Sequence[str]) -> Flags:
        """Abnormalities that texts claim: (N, A)."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._labeller.label(new), strict=True))
        return np.stack([self._known[text] for text in texts]).astype(bool)

    def by_part(self, texts: Sequence[str]) -> tuple[Flags, Flags] | None:
        """Abnormalities that findings and impressions name, each (N, A).

        None if asking about each part costs something.
        """
        if isinstance(self._labeller, DoubtingLabeller):
            return None
        reports = [split_sections(text).report for text in texts]
        findings = self([report.findings for report in reports])
        if (read := get_impression_reader(self.name)) is not None:
            return findings, read(texts).astype(bool)
        return findings, self([report.impression for report in reports])

    def anywhere(self, texts: Sequence[str]) -> Flags:
        """Abnormalities that either part names: (N, A)."""
        found = self(texts)
        read = get_impression_reader(self.name)
        return found if read is None else found | read(texts).astype(bool)

    def of_people(self, texts: Sequence[str]) -> Flags:
        """Abnormalities of reports that people wrote, which are the truth.

        Raises:
            OtherLanguageError: the labeller does not read the language of some.
        """
        check_language_for(self._labeller, texts)
        return self(texts)


def read_thresholds(path: Path | None, names: Sequence[str]) -> Floats:
    """Per-class thresholds, (A,), from JSON as `train_cls` writes it; 0.5 without a file."""
    if path is None:
        return np.full(len(names), DEFAULT_THRESHOLD)
    remedy = "train_cls writes one number from 0 to 1 for each abnormality"
    tuned = read_json(path, remedy)
    if missing := [name for name in names if name not in tuned]:
        raise DataError(path, f"no threshold for {', '.join(missing)}", remedy)
    for name in names:
        if type(tuned[name]) not in (int, float) or not 0 <= tuned[name] <= 1:
            raise DataError(path, f"{tuned[name]!r} is no threshold for {name}", remedy)
    return np.asarray([float(tuned[name]) for name in names])
