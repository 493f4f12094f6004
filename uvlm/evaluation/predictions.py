"""Generated reports, lined up with the cases they were asked for.

A case without a prediction is an empty report without probabilities and is never left out;
missing.py says what that costs. A prediction nobody asked for, or two for one case, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from uvlm.errors import DataError
from uvlm.text.predictions import CasePrediction, load_predictions


@dataclass(frozen=True)
class AlignedPredictions:
    """One prediction per case, in the order of the cases; None where there is none."""

    path: Path
    predictions: tuple[CasePrediction | None, ...]

    @property
    def num_missing(self) -> int:
        """How many cases have no prediction."""
        return self.predictions.count(None)

    @property
    def reports(self) -> list[str]:
        """Generated texts, empty where there is no prediction."""
        return [prediction.report if prediction else "" for prediction in self.predictions]

    @property
    def nearest(self) -> tuple[str, ...]:
        """Id of the training case nearest to each case, empty where none is given."""
        return tuple(p.nearest if p else "" for p in self.predictions)

    def probabilities(self, abnormalities: Sequence[str]) -> npt.NDArray[np.float64] | None:
        """(N, A) classifier probabilities, NaN where a case has none; None if no case has any.

        Raises:
            DataError: probabilities are given, but not of every abnormality.
        """
        given = [p.probabilities if p else {} for p in self.predictions]
        known = next(filter(None, given), None)
        if known is None:
            return None
        lacking = [name for name in abnormalities if name not in known]
        if lacking:
            more = f" and {len(lacking) - 1} more abnormalities" if len(lacking) > 1 else ""
            fact = f"no probability of {lacking[0]}{more}"
            raise DataError(self.path, fact, "name every abnormality, or leave probabilities out")
        rows = [[row.get(name, np.nan) for name in abnormalities] for row in given]
        return np.asarray(rows, dtype=np.float64)


def read_predictions(path: Path, case_ids: Sequence[str]) -> AlignedPredictions:
    """Read a predictions JSONL and line it up with the cases.

    Raises:
        DataError: a prediction belongs to no case.
    """
    by_case = {prediction.case_id: prediction for prediction in load_predictions(path)}
    wanted = set(case_ids)
    extra = [case for case in by_case if case not in wanted]
    if extra:
        fact = f"{len(extra)} predictions for cases outside the test split, first {extra[0]}"
        raise DataError(path, fact, "remove them or name the references that they belong to")
    return AlignedPredictions(path, tuple(by_case.get(case_id) for case_id in case_ids))
