"""DVC stage `pseudo_label`: one kind of anatomical label for every case, in the CT's own grid.

In a job array each job puts its share into the common store; `dvc repro` of the stage then
assembles the manifest:

    python -m pipeline.pseudo_label anatomy --shard ${SLURM_ARRAY_TASK_ID}/16
"""

from __future__ import annotations

import sys
from functools import partial
from typing import NoReturn

from pipeline.paths import manifest, quarantine
from pipeline.stage import Stage, refuse, run_stage_or_share
from uvlm.config import LABEL_KINDS, LabelKind
from uvlm.data.labels.pseudo import run, run_shard
from uvlm.errors import ConfigError
from uvlm.store import Shard


def label(stage: Stage, kind: LabelKind) -> None:
    """Label what the store does not hold yet."""
    name, cases = f"pseudo_label_{kind}", stage.progress.cases
    counts = run(
        kind, stage.params, manifest("index"), manifest(name), cases, quarantine(name), stage.code
    )
    stage.tracker.log(counts, 0)


def share(stage: Stage, shard: str, kind: LabelKind) -> None:
    """Label one share of the cases, into the store only."""
    cases = stage.progress.cases
    run_shard(kind, stage.params, manifest("index"), Shard.parse(shard), cases, stage.code)


def main(arguments: list[str]) -> NoReturn:
    """Run the kind that the command line names, or a share of it."""
    for kind in LABEL_KINDS:
        if arguments[:1] == [kind]:
            works = partial(label, kind=kind), partial(share, kind=kind)
            run_stage_or_share(f"pseudo_label@{kind}", *works, arguments[1:])
    remedy = f"pass {', '.join(LABEL_KINDS)}, and --shard i/n for a share"
    refuse(ConfigError("pseudo_label", f"{arguments} is not a kind", remedy))


if __name__ == "__main__":
    main(sys.argv[1:])
