"""The paper's six claims, each a thesis: comparisons of arms, and the rule that judges them.

A comparison asks for a gain, or for none. Its 95 % interval decides:

    gain      interval above 0                     holds
              else, it ends below NEGLIGIBLE       does not hold
              else                                 undecided
    no gain   the same, with the first two exchanged

A thesis holds if all of its comparisons hold, and does not hold if one of them does not. One that
was run with random weights in the place of a published model decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pipeline.tables.published import ABDOMEN, CHEST

Verdict = Literal["holds", "does not hold", "undecided", "not run"]
HOLDS: Final = "holds"
FAILS: Final = "does not hold"
UNDECIDED: Final = "undecided"
NOT_RUN: Final = "not run"
NEGLIGIBLE: Final = 0.01  # of F1 or BLEU: a smaller gain counts as none


@dataclass(frozen=True)
class Comparison:
    """The second arm is taken from the first; `expects` is None where nothing depends on it."""

    first: str
    second: str
    metric: str = "f1"
    expects: Literal["gain", "no gain"] | None = "gain"


@dataclass(frozen=True)
class Thesis:
    """What section 3.2 of the paper claims of one choice.

    Args:
        name: key of notes.yaml.
        title: of its part of the page.
        claim: what the paper says, in a sentence.
        asks: what is compared here, in a sentence.
        by_dataset: the comparisons, where the paper claims other things of chest and abdomen.
    """

    name: str
    title: str
    claim: str
    asks: str
    by_dataset: dict[str, tuple[Comparison, ...]]


def _both(*comparisons: Comparison) -> dict[str, tuple[Comparison, ...]]:
    return {CHEST: comparisons, ABDOMEN: comparisons}


_FINE_BEFORE_COARSE: Final = (
    Comparison("table5_07", "table5_06"),
    Comparison("table5_09", "table5_08", expects=None),
    Comparison("table4_04", "table4_03", expects=None),
)
THESES: Final = (
    Thesis(
        "progressive",
        "Progressive training",
        "Segmentation, then classification, then reports: leaving out one of the first two costs "
        "much F1, and segmentation helps the classifier.",
        "The full pipeline (row 7) must gain macro F1 over the one without segmentation (row 2) "
        "and over the one without classification (row 4); the classifier after segmentation "
        "(Table 4, row 4) over the one without (row 1).",
        _both(
            Comparison("table5_07", "table5_02"),
            Comparison("table5_07", "table5_04"),
            Comparison("table4_04", "table4_01"),
        ),
    ),
    Thesis(
        "injection",
        "Multi-layer injection",
        "Encoder stages that feed language layers (skip connections) improve BLEU-mean and "
        "leave F1 as it is.",
        "Row 9 must gain BLEU-mean over row 7, which differs only in the skip connections.",
        _both(
            Comparison("table5_09", "table5_07", "bleu_mean"),
            Comparison("table5_09", "table5_07", expects=None),
            Comparison("table5_08", "table5_06", "bleu_mean", expects=None),
        ),
    ),
    Thesis(
        "granularity",
        "Granularity of segmentation",
        "Which classes segmentation should separate depends on the task: fine anatomy is best "
        "for 18 findings of the chest, coarse anatomy for 3 lesions of the abdomen.",
        "On chests fine anatomy (row 7) must gain F1 over coarse anatomy (row 6); on abdomens "
        "row 6 over row 7.",
        {
            CHEST: _FINE_BEFORE_COARSE,
            ABDOMEN: tuple(
                Comparison(one.second, one.first, one.metric, one.expects)
                for one in _FINE_BEFORE_COARSE
            ),
        },
    ),
    Thesis(
        "freezing",
        "Frozen encoder",
        "Reports are better if stage 3 leaves the encoder as it is.",
        "The frozen encoder (row 7) must gain F1 over the one that is trained further (row 17).",
        _both(
            Comparison("table5_07", "table5_17"),
            Comparison("table5_06", "table5_16", expects=None),
        ),
    ),
    Thesis(
        "tokens",
        "Number of visual tokens",
        "Eight times the visual tokens bring no improvement.",
        "Row 11, with 8 times the tokens, must gain no F1 over row 7.",
        _both(
            Comparison("table5_11", "table5_07", expects="no gain"),
            Comparison("table5_11", "table5_07", "bleu_mean", expects=None),
            Comparison("table5_10", "table5_06", expects=None),
        ),
    ),
    Thesis(
        "decoder",
        "Scale of the decoder",
        "A decoder of 0.1B from scratch beats Qwen3-4B, with LoRA or trained whole.",
        "Our decoder (row 7) must gain F1 over Qwen3-4B with LoRA (row 14) and trained whole "
        "(row 15).",
        _both(Comparison("table5_07", "table5_14"), Comparison("table5_07", "table5_15")),
    ),
)
PIPELINE: Final = (
    Comparison("table5_07", "table5_02"),
    Comparison("table5_02", "table5_01"),
    Comparison("table5_07", "table5_01"),
    Comparison("table5_07", "table5_02", "bleu_mean", expects=None),
    Comparison("table5_02", "table5_01", "bleu_mean", expects=None),
    Comparison("table5_07", "table5_01", "bleu_mean", expects=None),
)


def judge(comparison: Comparison, interval: Sequence[float] | None) -> Verdict:
    """Apply the rule to the interval of one comparison that was run."""
    if interval is None:
        return UNDECIDED
    low, high = interval
    is_gain: Verdict = HOLDS if low > 0 else FAILS if high < NEGLIGIBLE else UNDECIDED
    if comparison.expects != "no gain":
        return is_gain
    turned: dict[Verdict, Verdict] = {HOLDS: FAILS, FAILS: HOLDS}
    return turned.get(is_gain, is_gain)


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Judge a thesis by the verdicts of its comparisons."""
    if FAILS in verdicts:
        return FAILS
    if all(verdict == NOT_RUN for verdict in verdicts):
        return NOT_RUN
    return HOLDS if all(verdict == HOLDS for verdict in verdicts) else UNDECIDED
