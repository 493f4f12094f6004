"""What a run says of every test case: flags, probabilities and counts of n-grams, and no text.

From it two models are compared case by case, by `uvlm table` and `uvlm promote`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Final

from pipeline.paths import CLAIMS, CLASSIFIED, GENERATED, MODELS, PARAMS, REPORTS, manifest
from pipeline.profiles import read_document
from pipeline.runs.records import RunRecord
from uvlm.arm_record import ArmRecord, CaseResult, digits, record_text
from uvlm.config import load_params
from uvlm.data.cases import read_index, scored_cases
from uvlm.evaluation.bleu import bleu_counts
from uvlm.files import write_text_atomic
from uvlm.text.abnormalities import abnormality_names
from uvlm.text.claims import CaseClaims, load_claims
from uvlm.text.predictions import load_predictions

TEST_CASES: Final = "test_cases.json"


@dataclass(frozen=True)
class Scored:
    """What a last stage leaves: metrics, predictions and, where reports are scored, claims."""

    metrics: Path
    predictions: Path
    claims: Path | None


BY_STAGE: Final[Mapping[str, Scored]] = {
    "evaluate": Scored(REPORTS / "metrics.json", GENERATED / "predictions.jsonl", CLAIMS),
    "classify": Scored(REPORTS / "classify.json", CLASSIFIED / "predictions.jsonl", None),
}


def write_test_cases(root: Path, record: RunRecord) -> Path:
    """Write test_cases.json beside the record of `evaluate`, which has just finished."""
    params, scored = load_params(root / PARAMS), BY_STAGE["evaluate"]
    names = abnormality_names(params)
    found = ArmRecord(
        table="",
        row="",
        arm=record.pipeline,
        profile=record.profile,
        seed=params.seed,
        scored="report",
        key=record.fingerprint,
        params=json.loads(json.dumps(read_document(root / PARAMS))),
        code={},
        inputs={},
        git={name: tag for name, tag in record.tags.items() if name.startswith("git.")},
        abnormalities=tuple(names),
        thresholds=thresholds_of(root, names),
        metrics=json.loads((root / scored.metrics).read_text(encoding="utf-8")),
        cases=tuple(cases_of(root, scored, names)),
    )
    path = record.folder / TEST_CASES
    write_text_atomic(path, record_text(found))
    return path


def cases_of(root: Path, scored: Scored, names: Sequence[str]) -> Iterator[CaseResult]:
    """Yield what was said of every case of the test split."""
    said = {case.case_id: case for case in load_predictions(root / scored.predictions)}
    claims = load_claims(root / scored.claims)[1] if scored.claims else {}
    cases = scored_cases(read_index(root / manifest("index")))
    written = [said[case.case_id].report if case.case_id in said else "" for case in cases]
    references = [case.report.text for case in cases]
    counts = bleu_counts(references, written).tolist() if scored.claims else []
    for case, ngrams in zip_longest(cases, counts):
        claim, prediction = claims.get(case.case_id), said.get(case.case_id)
        chances = prediction.probabilities if prediction else {}
        yield CaseResult(
            case_id=case.case_id,
            patient_id=case.patient_id,
            labels=digits(case.abnormalities),
            read=_digits(claim, "read", names),
            claimed=_digits(claim, "claimed", names),
            probabilities=tuple(chances[name] for name in names) if chances else None,
            ngrams=None if ngrams is None else tuple(map(int, ngrams)),
        )


def thresholds_of(root: Path, names: Sequence[str]) -> tuple[float, ...] | None:
    """Read the thresholds of the classifier, if it has learned."""
    path = root / MODELS / "cls" / "thresholds.json"
    if not path.is_file():
        return None
    by_name = json.loads(path.read_text(encoding="utf-8"))
    return tuple(float(by_name[name]) for name in names)


def _digits(claim: CaseClaims | None, which: str, names: Sequence[str]) -> str | None:
    said = None if claim is None else getattr(claim, which)
    return None if said is None else digits([name in said for name in names])
