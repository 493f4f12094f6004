"""DVC stage `pseudo_label`: one kind of anatomical label for every case, in the CT's own grid."""

from __future__ import annotations

import sys
from functools import partial
from typing import get_args

from pipeline.paths import manifest, quarantine
from pipeline.stage import Stage, run_stage
from uvlm.data.pseudo_labels import Kind, run
from uvlm.errors import ConfigError


def label(stage: Stage, kind: Kind) -> None:
    """Label what the store does not hold yet."""
    name = f"pseudo_label_{kind}"
    counts = run(
        kind,
        stage.params,
        manifest("index"),
        manifest(name),
        stage.progress.cases,
        quarantine(name),
    )
    stage.tracker.log(counts, 0)


def main(arguments: list[str]) -> None:
    """Run the kind that the command line names."""
    for kind in get_args(Kind):
        if arguments == [kind]:
            run_stage(f"pseudo_label@{kind}", partial(label, kind=kind))
    error = ConfigError(
        "pseudo_label", f"{arguments} is no kind", f"name one of {', '.join(get_args(Kind))}"
    )
    sys.stderr.write(f"{error}\n")
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main(sys.argv[1:])
