"""DVC stage `index`: cases, splits by patient, leak audit, and the cases refused by name."""

from __future__ import annotations

from pipeline.paths import REPORTS, manifest, quarantine
from pipeline.stage import Stage, run_stage
from uvlm.data.index import build
from uvlm.files import write_json_atomic


def index(stage: Stage) -> None:
    """Write the index, and how many cases of which table were kept and refused."""
    summary = build(stage.params, manifest("download"), manifest("index"), quarantine("index"))
    counts = {f"kept.{split}": count for split, count in summary.kept.items()}
    counts |= {f"refused.{reason}": count for reason, count in summary.refused.items()}
    write_json_atomic(REPORTS / "index.json", summary.to_json())
    stage.tracker.log({"candidates": summary.candidates, **counts}, 0)


if __name__ == "__main__":
    run_stage("index", index)
