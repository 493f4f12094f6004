"""DVC stage `preprocess`: every CT in one orientation, clipped, on one grid."""

from __future__ import annotations

from pipeline.paths import manifest, quarantine
from pipeline.stage import Stage, run_stage
from uvlm.data.preprocess import run


def preprocess(stage: Stage) -> None:
    """Preprocess what the store does not hold yet; refuse unreadable CTs by name."""
    counts = run(
        stage.params,
        manifest("index"),
        manifest("preprocess"),
        quarantine("preprocess"),
        stage.progress.cases,
    )
    stage.tracker.log(counts, 0)


if __name__ == "__main__":
    run_stage("preprocess", preprocess)
