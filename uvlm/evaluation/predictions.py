"""Generated reports, lined up with the cases they were asked for.

A case without a prediction counts as an empty report with every probability 0, so that leaving out
hard cases costs. A prediction nobody asked for, or two for one case, is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uvlm.errors import DataError


@dataclass(frozen=True)
class Prediction:
    """What the model said about one case."""

    report: str
    probabilities: dict[str, float]


NO_PREDICTION = Prediction("", {})


@dataclass(frozen=True)
class AlignedPredictions:
    """One prediction per case, in the order of the cases."""

    predictions: tuple[Prediction, ...]
    num_missing: int

    @property
    def reports(self) -> list[str]:
        """Generated texts, empty where there is no prediction."""
        return [prediction.report for prediction in self.predictions]

    def probabilities(self, abnormalities: Sequence[str]) -> npt.NDArray[np.float64] | None:
        """(N, A) classifier probabilities; None if no prediction carries any."""
        if not any(prediction.probabilities for prediction in self.predictions):
            return None
        rows = [[p.probabilities.get(a, 0.0) for a in abnormalities] for p in self.predictions]
        return np.asarray(rows, dtype=np.float64)


def read_predictions(path: Path, case_ids: Sequence[str]) -> AlignedPredictions:
    """Read a predictions JSONL and line it up with the cases.

    Raises:
        DataError: the file is damaged, names a case twice, or names a case that is not asked for.
    """
    by_case: dict[str, Prediction] = {}
    for number, line in enumerate(_lines(path), start=1):
        case_id, prediction = _parse(path, number, line)
        if case_id in by_case:
            raise DataError(path, f"line {number}: second prediction for {case_id}", "keep one")
        by_case[case_id] = prediction
    extra = sorted(set(by_case) - set(case_ids))
    if extra:
        raise DataError(
            path,
            f"{len(extra)} predictions for cases outside the test split, first {extra[0]}",
            "remove them or evaluate against the index they belong to",
        )
    aligned = tuple(by_case.get(case_id, NO_PREDICTION) for case_id in case_ids)
    return AlignedPredictions(aligned, num_missing=len(case_ids) - len(by_case))


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(path, "no such file", "run the stage generate") from None
    except UnicodeDecodeError as error:
        raise DataError(path, f"not UTF-8 ({error})", "write it again") from None
    return [line for line in text.split("\n") if line.strip()]


def _parse(path: Path, number: int, line: str) -> tuple[str, Prediction]:
    try:
        row: dict[str, Any] = json.loads(line)
        probabilities = {str(k): float(v) for k, v in (row.get("probabilities") or {}).items()}
        return str(row["case_id"]), Prediction(str(row["report"]), probabilities)
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        fact = f"line {number} is not a prediction ({type(error).__name__}: {error})"
        raise DataError(path, fact, "force the stage generate") from None
