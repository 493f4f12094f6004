"""The paper's comparisons: which rows of a table are set against each other, and for what claim."""

from __future__ import annotations

from typing import Final, NamedTuple


class Ablation(NamedTuple):
    """One claim: `pairs` are rows of the table, of which the second is taken from the first."""

    name: str
    claim: str
    pairs: tuple[tuple[int, int], ...]


ABLATIONS: Final[dict[int, tuple[Ablation, ...]]] = {
    4: (
        Ablation(
            "segmentation",
            "Segmentation before classification helps",
            ((2, 1), (3, 1), (4, 1)),
        ),
    ),
    5: (
        Ablation(
            "progressive",
            "Each training before the report helps",
            ((7, 1), (7, 2), (7, 4), (6, 1), (6, 2), (6, 3)),
        ),
        Ablation("injection", "Multi-layer injection helps the wording", ((9, 7), (8, 6))),
        Ablation(
            "granularity",
            "Which classes segmentation separates depends on the task",
            ((7, 6), (9, 8), (6, 5), (7, 5)),
        ),
        Ablation("freezing", "A frozen encoder is better", ((7, 17), (6, 16))),
        Ablation("tokens", "More visual tokens do not help", ((11, 7), (10, 6))),
        Ablation(
            "decoder",
            "A small decoder beats Qwen3-4B",
            ((7, 14), (7, 15), (6, 12), (6, 13)),
        ),
    ),
}
