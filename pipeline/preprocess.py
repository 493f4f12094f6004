"""DVC stage `preprocess`: every CT in one orientation, clipped, on one grid.

In a job array each job puts its share into the common store; `dvc repro preprocess` then assembles
the manifest:

    python -m pipeline.preprocess --shard ${SLURM_ARRAY_TASK_ID}/16
"""

from __future__ import annotations

import sys

from pipeline.paths import manifest, quarantine
from pipeline.stage import Stage, run_stage_or_share
from uvlm.data.preprocess import run, run_shard
from uvlm.store import Shard


def preprocess(stage: Stage) -> None:
    """Preprocess what the store does not hold yet; refuse unreadable CTs by name."""
    out, refused = manifest("preprocess"), quarantine("preprocess")
    counts = run(stage.params, manifest("index"), out, refused, stage.progress.cases, stage.code)
    stage.tracker.log(counts, 0)


def share(stage: Stage, shard: str) -> None:
    """Preprocess one share of the cases, into the store only."""
    cases = stage.progress.cases
    run_shard(stage.params, manifest("index"), Shard.parse(shard), cases, stage.code)


if __name__ == "__main__":
    run_stage_or_share("preprocess", preprocess, share, sys.argv[1:])
