"""Every number of stage 2 on the test split, without a decoder: Table 4 of the paper.

reports/classify.json

    n, n_patients, n_missing    as in metrics.json of evaluate.py, by the same functions
    protocol.*                  which rules gave the numbers
    cls.*, classes.*            as in metrics.json; cls is empty if the classifier never trained
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uvlm.config import Params
from uvlm.data.cases import read_index
from uvlm.evaluation.evaluate import gather_reference
from uvlm.evaluation.missing import RULE as MISSING_RULE
from uvlm.evaluation.predictions import read_predictions
from uvlm.evaluation.reference import read_thresholds
from uvlm.evaluation.scores import class_counts, classifier_scores
from uvlm.files import file_sha256, write_json_atomic


def evaluate_classifier(
    params: Params, *, index: Path, predictions: Path, thresholds: Path | None, out: Path
) -> dict[str, Any]:
    """Score the probabilities of the test split and write the numbers.

    Args:
        params: reads `seed` and the sections label_maps (the data set) and evaluate.
        index: the cases.
        predictions: JSON lines of `classify_cases`.
        thresholds: JSON of each abnormality's threshold, tuned on validation; None for 0.5.
        out: classify.json.
    """
    reference = gather_reference(params, read_index(index), index)
    predicted = read_predictions(predictions, reference.case_ids)
    tuned = read_thresholds(thresholds, reference.names)
    metrics = {
        **reference.size(predicted.num_missing),
        "protocol": {
            "missing_prediction": MISSING_RULE,
            "bootstrap_samples": params.evaluate.bootstrap_samples,
            "seed": params.seed,
            "index_sha256": file_sha256(index)[:16],
        },
        "cls": classifier_scores(reference, predicted.probabilities(reference.names), tuned),
        "classes": class_counts(reference),
    }
    write_json_atomic(out, metrics)
    return metrics
