"""DVC stage `summarize`: the page that people read, and the end of the run in MLflow."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pipeline.dvc_yaml import read_declarations
from pipeline.info import versions
from pipeline.paths import CLAIMS, GENERATED, QUARANTINE, REPORTS, manifest, state_root
from pipeline.runs.mlflow_tracker import MlflowTracker
from pipeline.runs.publish_run import publish_run
from pipeline.stage import Stage, run_stage
from uvlm.evaluation.labeller import get_phrases
from uvlm.pages.class_tables import write_tables
from uvlm.pages.summary import StageCost, SummaryInputs, build_summary
from uvlm.store import read_manifest
from uvlm.text.abnormalities import abnormality_names

TRAININGS = ("train_seg", "train_cls", "train_report")


def summarize(stage: Stage) -> None:
    """Write reports/summary.md, summary.html and figures; complete the MLflow run."""
    assert isinstance(stage.tracker, MlflowTracker)
    record = stage.tracker.record
    downloaded = read_manifest(manifest("download"))
    facts = {"profile": stage.params.profile, "seed": str(stage.params.seed)}
    facts |= {name: tag for name, tag in record.tags.items() if name in ("git.commit", "git.dirty")}
    inputs = SummaryInputs(
        index=manifest("index"),
        preprocess=manifest("preprocess"),
        label_maps=manifest("label_maps"),
        generated_masks=manifest("generate"),
        predictions=GENERATED / "predictions.jsonl",
        metrics=REPORTS / "metrics.json",
        per_class=REPORTS / "per_class.json",
        claims=CLAIMS,
        quarantine=QUARANTINE,
        histories={name: REPORTS / name / "history.csv" for name in TRAININGS},
        phrases=get_phrases(stage.params.evaluate.labeller, abnormality_names(stage.params)),
        labels_are_read=any(row.source == "labeller" for row in downloaded),
        costs=read_costs(),
        facts=facts | versions(),
        accounts=[REPORTS / "index.json", REPORTS / "audit.json"],
    )
    build_summary(stage.params, inputs, REPORTS)
    write_tables(inputs.per_class, REPORTS)
    metrics = json.loads(inputs.metrics.read_text(encoding="utf-8"))
    pages = [REPORTS / "summary.md", REPORTS / "summary.html", REPORTS / "figures"]
    address = publish_run(record, Path.cwd(), metrics, [inputs.metrics, *pages])
    sys.stdout.write(f"summary: {REPORTS / 'summary.md'} and {REPORTS / 'summary.html'}\n")
    if address is not None:
        ui = "mlflow ui --backend-store-uri sqlite:///mlflow.db"
        sys.stdout.write(f"summarize: the runs, after `{ui}`: {address}\n")


def read_costs() -> list[StageCost]:
    """Read what each stage took when it last ran, in the order of dvc.yaml."""
    costs = []
    for name in read_declarations(Path.cwd()):
        path = state_root() / "timings" / f"{name}.json"
        if name != "summarize" and path.exists():
            timing = json.loads(path.read_text(encoding="utf-8"))
            peak = max(timing["peak_rss_mb"], timing["peak_child_rss_mb"])
            costs.append(StageCost(name, timing["seconds"], peak))
    return costs


if __name__ == "__main__":
    run_stage("summarize", summarize, live=True)
