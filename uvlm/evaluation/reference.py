"""What reports are scored against, and what a labeller reads out of texts.

N cases, A abnormalities.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Flags, Floats
from uvlm.errors import DataError
from uvlm.evaluation.bootstrap import Resamples
from uvlm.evaluation.labeller import Labeller, check_language_for
from uvlm.evaluation.missing import is_missing, wrong_claims

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
    try:
        tuned = json.loads(path.read_text(encoding="utf-8"))
        return np.asarray([float(tuned[name]) for name in names])
    except (OSError, ValueError, KeyError, TypeError) as error:
        fact = f"no threshold for every abnormality ({type(error).__name__}: {error})"
        raise DataError(path, fact, "force the stage train_cls") from None
