"""DVC stage `classify`: test probabilities of stage 2, scored without a decoder."""

from __future__ import annotations

from pipeline.paths import CLASSIFIED, MODELS, REPORTS, manifest
from pipeline.stage import Stage, run_stage
from uvlm.data.leaks.fitted_on import check_fits
from uvlm.evaluation.evaluate_classifier import evaluate_classifier


def classify(stage: Stage) -> None:
    """Write probabilities and their scores, if nothing was fitted on test."""
    from uvlm.inference.classify import classify_cases

    check_fits(manifest("index"), [MODELS / "cls"])
    predictions = CLASSIFIED / "predictions.jsonl"
    classify_cases(
        stage.params,
        index=manifest("index"),
        preprocess=manifest("preprocess"),
        model=MODELS / "cls",
        predictions=predictions,
        progress=stage.progress,
    )
    evaluate_classifier(
        stage.params,
        index=manifest("index"),
        predictions=predictions,
        thresholds=MODELS / "cls" / "thresholds.json",
        out=REPORTS / "classify.json",
    )


if __name__ == "__main__":
    run_stage("classify", classify, tensors=True)
