"""DVC stage `pseudo_label`: one kind of anatomical label for every case, in the CT's own grid.

Of a job array, each job takes its share into the common store, and `dvc repro` of the stage then
assembles the manifest:

    python -m pipeline.pseudo_label anatomy --shard ${SLURM_ARRAY_TASK_ID}/16
"""

from __future__ import annotations

import sys
from functools import partial
from typing import NoReturn

from pipeline.paths import manifest, quarantine
from pipeline.progress import ProgressBar
from pipeline.stage import Stage, run_share, run_stage
from uvlm.config import LABEL_KINDS, LabelKind, Params
from uvlm.data.labels.pseudo import run, run_shard
from uvlm.errors import ConfigError
from uvlm.store import Shard


def label(stage: Stage, kind: LabelKind) -> None:
    """Label what the store does not hold yet."""
    name = f"pseudo_label_{kind}"
    counts = run(
        kind,
        stage.params,
        manifest("index"),
        manifest(name),
        stage.progress.cases,
        quarantine(name),
        stage.code,
    )
    stage.tracker.log(counts, 0)


def share(kind: LabelKind, text: str) -> NoReturn:
    """Label the share that `--shard i/n` names."""

    def work(params: Params, progress: ProgressBar, code: str) -> None:
        run_shard(kind, params, manifest("index"), Shard.parse(text), progress.cases, code)

    run_share(f"pseudo_label@{kind}", work)


def main(arguments: list[str]) -> NoReturn:
    """Run the kind that the command line names, or a share of it."""
    for kind in LABEL_KINDS:
        match arguments:
            case [name] if name == kind:
                run_stage(f"pseudo_label@{kind}", partial(label, kind=kind))
            case [name, "--shard", text] if name == kind:
                share(kind, text)
    error = ConfigError(
        "pseudo_label",
        f"{arguments} is no kind",
        f"name one of {', '.join(LABEL_KINDS)}, and --shard i/n for a share",
    )
    sys.stderr.write(f"{error}\n")
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main(sys.argv[1:])
