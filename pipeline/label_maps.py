"""DVC stage `label_maps`: pseudo-labels and lesions in one map per case, on the network's grid."""

from __future__ import annotations

from pipeline.paths import manifest, quarantine
from pipeline.stage import Stage, run_stage
from uvlm.config import LABEL_KINDS
from uvlm.data.labels.label_maps import run


def merge(stage: Stage) -> None:
    """Merge what the store does not hold yet."""
    counts = run(
        stage.params,
        manifest("index"),
        manifest("preprocess"),
        {kind: manifest(f"pseudo_label_{kind}") for kind in LABEL_KINDS},
        manifest("label_maps"),
        stage.progress.cases,
        quarantine("label_maps"),
        stage.code,
    )
    stage.tracker.log(counts, 0)


if __name__ == "__main__":
    run_stage("label_maps", merge)
