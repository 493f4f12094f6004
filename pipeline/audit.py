"""DVC stage `audit`: every row accounted for, no leak between splits, label maps inspected."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from pipeline.paths import MODELS, QUARANTINE, REPORTS, manifest
from pipeline.stage import Stage, run_stage
from uvlm.data.audit import run
from uvlm.pages.label_quality import report_label_maps


def audit(stage: Stage) -> None:
    """Write reports/audit.json, or fail and name the pair that leaks; then reports/labels.*."""
    params, volumes, maps = stage.params, manifest("preprocess"), manifest("label_maps")
    report = run(
        params,
        index=manifest("index"),
        preprocess=volumes,
        label_maps=maps,
        fitted=[MODELS / "tokenizer"],
        quarantine=QUARANTINE,
        out=REPORTS / "audit.json",
    )
    sys.stderr.write(f"audit: {_stage_1(report['stage_1'])}\n")
    stage.tracker.log({f"nearest.{split}": d for split, d in report["nearest"].items()}, 0)
    quality = report_label_maps(params.label_maps, params.audit, volumes, maps, REPORTS / "labels")
    stage.tracker.log({"label_maps.flagged": quality["flagged"]}, 0)
    stage.tracker.artifact(REPORTS / "labels.html")


def _stage_1(counts: Mapping[str, Any]) -> str:
    """Say how many cases segmentation learns from, beside the paper's number."""
    train, val = (counts.get(split, 0) for split in ("train", "val"))
    line = f"stage 1 has {train + val:,} cases ({counts['cases']}: {train:,} train, {val:,} val)"
    paper = counts["in_the_paper"]
    return f"{line}; the paper has {paper:,}" if paper else line


if __name__ == "__main__":
    run_stage("audit", audit)
