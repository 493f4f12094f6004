"""DVC stage `audit`: every row accounted for, and no leak between splits, before any training."""

from __future__ import annotations

from pipeline.paths import MODELS, QUARANTINE, REPORTS, manifest
from pipeline.stage import Stage, run_stage
from uvlm.data.audit import AuditInputs, run


def audit(stage: Stage) -> None:
    """Write reports/audit.json, or fail naming the pair that leaks."""
    inputs = AuditInputs(
        index=manifest("index"),
        preprocess=manifest("preprocess"),
        label_maps=manifest("label_maps"),
        fitted=[MODELS / "tokenizer"],
        quarantine=QUARANTINE,
    )
    report = run(stage.params, inputs, REPORTS / "audit.json")
    stage.tracker.log({f"nearest.{split}": d for split, d in report["nearest"].items()}, 0)


if __name__ == "__main__":
    run_stage("audit", audit)
