"""DVC stage `pseudo_label`: one kind of label, on its CT's grid, for all that get a label map.

`shares` says how a share of the cases is made.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import NoReturn

from pipeline.paths import manifest
from pipeline.shares import refuse, run_cases
from uvlm.config import LABEL_KINDS, Params
from uvlm.data.cases import Case, mapped_cases, read_index
from uvlm.data.labels.pseudo.stage import PseudoLabels


def labelled(params: Params) -> list[Case]:
    """Choose the cases of the index that get a label map."""
    return mapped_cases(read_index(manifest("index")), params.label_maps)


def main(arguments: list[str]) -> NoReturn:
    """Run the kind that the command line names, or a share of it."""
    for kind in LABEL_KINDS:
        if arguments[:1] == [kind]:
            choose = partial(PseudoLabels.of, kind=kind)
            run_cases(f"pseudo_label@{kind}", choose, arguments[1:], labelled)
    remedy = f"pass {', '.join(LABEL_KINDS)}, and --shard i/n for a share"
    refuse("pseudo_label", f"{arguments} is not a kind", remedy)


if __name__ == "__main__":
    main(sys.argv[1:])
