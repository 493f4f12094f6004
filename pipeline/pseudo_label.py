"""DVC stage `pseudo_label`: one kind of label for every case on its own grid; see `shares`."""

from __future__ import annotations

import sys
from functools import partial
from typing import NoReturn

from pipeline.shares import refuse, run_cases
from uvlm.config import LABEL_KINDS
from uvlm.data.labels.pseudo.stage import PseudoLabels


def main(arguments: list[str]) -> NoReturn:
    """Run the kind that the command line names, or a share of it."""
    for kind in LABEL_KINDS:
        if arguments[:1] == [kind]:
            run_cases(f"pseudo_label@{kind}", partial(PseudoLabels.of, kind=kind), arguments[1:])
    remedy = f"pass {', '.join(LABEL_KINDS)}, and --shard i/n for a share"
    refuse("pseudo_label", f"{arguments} is not a kind", remedy)


if __name__ == "__main__":
    main(sys.argv[1:])
