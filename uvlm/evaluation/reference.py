"""What reports are scored against, and what a labeller reads out of them.

N cases, A abnormalities.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Flags, Floats
from uvlm.errors import DataError, SetupError
from uvlm.evaluation import scores
from uvlm.evaluation.bleu import HEADLINE, PROTOCOLS
from uvlm.evaluation.bootstrap import Resamples, Samples, with_interval, with_intervals
from uvlm.evaluation.labeller import Labeller
from uvlm.evaluation.missing import is_missing, wrong_claims, wrong_probabilities
from uvlm.evaluation.text_metrics import why_no_meteor

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

    def report_scores(self, texts: Sequence[str], claimed: Flags) -> dict[str, Any]:
        """Every number about N reports and the (N, A) abnormalities they claim."""
        return {
            **scores.label_scores(self.labels, claimed, self.resamples),
            **scores.text_scores(self.texts, texts, self.resamples),
        }

    def report_samples(self, texts: Sequence[str], claimed: Flags) -> Samples:
        """Compute the metrics of `report_scores` in every bootstrap sample, to compare two."""
        return {
            **scores.label_samples(self.labels, claimed, self.resamples),
            **scores.text_samples(self.texts, texts, self.resamples),
        }

    def oracle_scores(self, label: TextLabels) -> dict[str, Any]:
        """Score the reference reports through the same labeller: the ceiling of any report."""
        return scores.label_scores(self.labels, label(self.texts), self.resamples)

    def above_trivial(self, claimed: Flags, trivial: Sequence[Flags]) -> dict[str, Any]:
        """Macro-F1 of (N, A) claims above the best that never looks at an image."""
        own, *rivals = (
            scores.label_samples(self.labels, claims, self.resamples)["macro_f1"]
            for claims in (claimed, *trivial)
        )
        best = max(rivals, key=lambda samples: float(samples[0]))
        return with_interval("above_trivial", own - best)

    def other_protocols(self, texts: Sequence[str]) -> dict[str, dict[str, Any]]:
        """BLEU of N reports under the protocols that are not the headline's."""
        return {
            other: with_intervals(scores.bleu_samples(self.texts, texts, self.resamples, other))
            for other in PROTOCOLS
            if other != HEADLINE
        }

    def meteor(self, texts: Sequence[str]) -> dict[str, Any]:
        """METEOR of N reports where there is a Java that runs it; else why it is not computed."""
        if reason := why_no_meteor():
            return {"not_computed": reason}
        try:
            return scores.meteor_scores(self.texts, texts, self.resamples)
        except SetupError as error:
            return {"not_computed": error.fact}

    def classifier_scores(self, probabilities: Floats | None, thresholds: Floats) -> dict[str, Any]:
        """Score (N, A) probabilities at 0.5 and at tuned thresholds, (A,).

        A case without probabilities is a row of NaN and as wrong as it can be.
        """
        if probabilities is None:
            return {}
        probabilities = wrong_probabilities(self.labels, probabilities)
        tuned = scores.label_scores(self.labels, probabilities >= thresholds, self.resamples)
        return {
            **scores.label_scores(self.labels, probabilities >= DEFAULT_THRESHOLD, self.resamples),
            **{
                name.replace("macro_f1", "macro_f1_tuned"): value
                for name, value in tuned.items()
                if "f1" in name
            },
            **with_intervals(scores.ranking_samples(self.labels, probabilities, self.resamples)),
        }


class TextLabels:
    """A labeller that reads every different text once."""

    def __init__(self, labeller: Labeller) -> None:
        self._labeller = labeller
        self._known: dict[str, npt.NDArray[np.int64]] = {}

    def __call__(self, texts: Sequence[str]) -> Flags:
        """Abnormalities that texts claim: (N, A)."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._labeller.label(new), strict=True))
        return np.stack([self._known[text] for text in texts]).astype(bool)


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
