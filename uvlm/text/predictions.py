"""Predictions: one JSON object a line, in the order of the ids, so that anyone can score them.

    case_id        which case; no id occurs twice
    report         the generated text; "" where the model wrote nothing
    patient_id     whose CT it is; intervals resample patients ("" or left out: unknown)
    probabilities  abnormality -> probability in [0, 1] (optional; the same names on all lines)
    nearest        the training case that the classifier finds most similar (optional)
    model          first digits of the model's sha256 (optional)
    seconds        how long the case took (optional)

Other keys are ignored. The stage `generate` writes trained.json beside them: the parts of the model
that have learned. Of the others there are no masks, no probabilities or no reports.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from uvlm.files import write_json_atomic, write_text_atomic
from uvlm.tables import read_text, refuse

_TRAINED: Final = "trained.json"
_REMEDY: Final = "correct the file or write it again"


@dataclass(frozen=True)
class CasePrediction:
    """What a model said about one case: one line of the file."""

    case_id: str
    patient_id: str
    report: str
    probabilities: dict[str, float] = field(default_factory=dict)
    nearest: str = ""
    model: str = ""
    seconds: float = 0.0


def write_predictions(path: Path, predictions: Iterable[CasePrediction]) -> None:
    """Write JSON lines in case order."""
    ordered = sorted(predictions, key=lambda prediction: prediction.case_id)
    lines = [json.dumps(vars(p), ensure_ascii=False, allow_nan=False) for p in ordered]
    write_text_atomic(path, "".join(f"{line}\n" for line in lines))


def write_trained(predictions: Path, trained: Collection[str]) -> None:
    """Say beside `predictions` which parts of the model have learned; see uvlm/model/trained.py."""
    write_json_atomic(predictions.with_name(_TRAINED), {"trained": list(trained)})


def has_learned(predictions: Path, part: str) -> bool:
    """Whether a part of the model behind `predictions` has learned; an earlier release said not."""
    path = predictions.with_name(_TRAINED)
    return not path.exists() or part in json.loads(read_text(path))["trained"]


def load_predictions(path: Path) -> list[CasePrediction]:
    """Read JSON lines in the order of the file.

    Raises:
        DataError: the file is damaged, a case occurs twice, or a probability is outside 0 to 1.
    """
    loaded: dict[str, CasePrediction] = {}
    problems: list[str] = []
    # Only "\n" ends a line: str.splitlines would cut reports at U+2028 and the like.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            prediction = _parse(line)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            problems.append(f"line {number} is not a prediction ({reason})")
            continue
        if prediction.case_id in loaded:
            problems.append(f"line {number}: second prediction for {prediction.case_id}")
        loaded[prediction.case_id] = prediction
    names = {frozenset(p.probabilities) for p in loaded.values() if p.probabilities}
    if len(names) > 1:
        differing = sorted(frozenset.union(*names) - frozenset.intersection(*names))
        problems.append(f"some lines have no probability of {differing[0]}")
    refuse(path, problems, _REMEDY)
    return list(loaded.values())


def _parse(line: str) -> CasePrediction:
    row: dict[str, Any] = json.loads(line)
    report, case_id = row["report"], row["case_id"]
    if not isinstance(report, str) or not isinstance(case_id, str) or not case_id.strip():
        raise TypeError("case_id and report must be strings, and case_id not empty")
    probabilities = {str(k): float(v) for k, v in (row.get("probabilities") or {}).items()}
    for name, value in probabilities.items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"the probability of {name} is {value}")
    texts = {key: str(row.get(key) or "") for key in ("patient_id", "nearest", "model")}
    seconds = float(row.get("seconds") or 0.0)
    return CasePrediction(
        case_id=case_id, report=report, probabilities=probabilities, seconds=seconds, **texts
    )
