"""DVC stage `evaluate`: every number of the test split, beside trivial baselines."""

from __future__ import annotations

from pipeline.paths import CLAIMS, GENERATED, MODELS, REPORTS, manifest
from pipeline.stage import Stage, run_stage
from uvlm.config import LABEL_KINDS
from uvlm.data.leaks.fitted_on import check_fits
from uvlm.evaluation.evaluate import evaluate
from uvlm.evaluation.native_masks import MaskManifests


def score(stage: Stage) -> None:
    """Write metrics, rows per class and claims per case, if nothing was fitted on test."""
    check_fits(manifest("index"), [MODELS / "cls"])
    evaluate(
        stage.params,
        index=manifest("index"),
        masks=MaskManifests(
            volumes=manifest("preprocess"),
            label_maps=manifest("label_maps"),
            generated=manifest("generate"),
            parts={kind: manifest(f"pseudo_label_{kind}") for kind in LABEL_KINDS},
        ),
        predictions=GENERATED / "predictions.jsonl",
        thresholds=MODELS / "cls" / "thresholds.json",
        out=REPORTS / "metrics.json",
        per_class=REPORTS / "per_class.json",
        claims=CLAIMS,
        progress=stage.progress.cases,
    )


if __name__ == "__main__":
    run_stage("evaluate", score)
