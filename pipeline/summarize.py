"""DVC stage `summarize`: the page that people read, and the end of the run in MLflow."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pipeline.info import versions
from pipeline.paths import GENERATED, QUARANTINE, REPORTS, manifest, state_root
from pipeline.runs.mlflow_tracker import MlflowTracker
from pipeline.runs.publish_run import publish_run
from pipeline.stage import Stage, run_stage
from uvlm.evaluation.labelling.phantom import highlight_spans
from uvlm.pages.summary import StageCost, SummaryInputs, build_summary

TRAININGS = ("train_seg", "train_cls", "train_report")
STAGES = (
    "code", "download", "index", "preprocess", "pseudo_label@anatomy", "pseudo_label@airway",
    "pseudo_label@vessel", "label_maps", "tokenizer", "audit", "train_seg", "train_cls", "encode",
    "train_report", "generate", "evaluate",
)  # fmt: skip


def summarize(stage: Stage) -> None:
    """Write reports/summary.md, summary.html and figures; complete the MLflow run."""
    assert isinstance(stage.tracker, MlflowTracker)
    record = stage.tracker.record
    facts = {"profile": stage.params.profile, "seed": str(stage.params.seed)}
    facts |= {
        name: record.tags[name] for name in ("git.commit", "git.dirty") if name in record.tags
    }
    inputs = SummaryInputs(
        index=manifest("index"),
        preprocess=manifest("preprocess"),
        label_maps=manifest("label_maps"),
        generated_masks=manifest("generate"),
        predictions=GENERATED / "predictions.jsonl",
        metrics=REPORTS / "metrics.json",
        per_class=REPORTS / "per_class.json",
        quarantine=QUARANTINE,
        histories={name: REPORTS / name / "history.csv" for name in TRAININGS},
        spans=highlight_spans,
        costs=read_costs(state_root() / "timings"),
        facts=facts | versions(),
        accounts=[REPORTS / "index.json", REPORTS / "audit.json"],
    )
    build_summary(stage.params, inputs, REPORTS)
    metrics = json.loads(inputs.metrics.read_text(encoding="utf-8"))
    pages = [REPORTS / "summary.md", REPORTS / "summary.html", REPORTS / "figures"]
    publish_run(record, Path.cwd(), metrics, pages)
    sys.stdout.write(f"summary: {REPORTS / 'summary.md'} and {REPORTS / 'summary.html'}\n")


def read_costs(folder: Path) -> list[StageCost]:
    """Read what each stage took when it last ran, in the order of the graph."""
    costs = []
    for name in STAGES:
        path = folder / f"{name}.json"
        if path.exists():
            timing = json.loads(path.read_text(encoding="utf-8"))
            peak = max(timing["peak_rss_mb"], timing["peak_child_rss_mb"])
            costs.append(StageCost(name, timing["seconds"], peak))
    return costs


if __name__ == "__main__":
    run_stage("summarize", summarize, live=True)
