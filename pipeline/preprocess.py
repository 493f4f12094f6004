"""DVC stage `preprocess`: every CT in one orientation, clipped, on one grid.

Of a job array, each job takes its share into the common store, and `dvc repro preprocess` then
assembles the manifest:

    python -m pipeline.preprocess --shard ${SLURM_ARRAY_TASK_ID}/16
"""

from __future__ import annotations

import sys
from typing import NoReturn

from pipeline.paths import manifest, quarantine
from pipeline.progress import ProgressBar
from pipeline.stage import Stage, run_share, run_stage
from uvlm.config import Params
from uvlm.data.preprocess import run, run_shard
from uvlm.errors import ConfigError
from uvlm.store import Shard


def preprocess(stage: Stage) -> None:
    """Preprocess what the store does not hold yet; refuse unreadable CTs by name."""
    counts = run(
        stage.params,
        manifest("index"),
        manifest("preprocess"),
        quarantine("preprocess"),
        stage.progress.cases,
        stage.code,
    )
    stage.tracker.log(counts, 0)


def share(text: str) -> NoReturn:
    """Preprocess the share that `--shard i/n` names."""

    def work(params: Params, progress: ProgressBar, code: str) -> None:
        run_shard(params, manifest("index"), Shard.parse(text), progress.cases, code)

    run_share("preprocess", work)


def main(arguments: list[str]) -> NoReturn:
    """Run the stage, or the share of it that the command line names."""
    match arguments:
        case []:
            run_stage("preprocess", preprocess)
        case ["--shard", text]:
            share(text)
    error = ConfigError("preprocess", f"{arguments} is no option", "give nothing or --shard i/n")
    sys.stderr.write(f"{error}\n")
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main(sys.argv[1:])
