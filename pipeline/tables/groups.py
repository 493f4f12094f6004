"""Tables that the paper does not have: our controls, choices it leaves open, a reader's own lists.

Their documents have the form of the paper's tables (document.py), without numbers of the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.tables.effects import METRICS, effect_of
from pipeline.tables.results import Result
from uvlm.errors import ConfigError


@dataclass(frozen=True)
class Group:
    """What a table of arms shows.

    Args:
        heading: of the page.
        about: what has to be known before its numbers are read.
        rows: what each arm is, in the order of the table.
        pairs: arms of which the second is taken from the first, with what that shows.
        metrics: in which they are.
    """

    heading: str
    about: tuple[str, ...]
    rows: Mapping[str, str]
    pairs: Mapping[tuple[str, str], str]
    metrics: tuple[str, ...] = ("f1", "bleu_mean")


GROUPS: Final[Mapping[str, Group]] = {
    "controls": Group(
        heading="Negative controls: what must fail",
        about=(
            "Trained with the abnormalities of other patients, a classifier has to fall to chance, "
            "an AUROC of 0.5. Trained with the reports of other patients, texts have to fall to "
            "what needs no image: F1 above trivial at most 0.",
            "The untrained encoder is shown for comparison; it has no value to fall to.",
        ),
        rows={
            "table4_04": "Classifier, as it is (Table 4, row 4)",
            "controls_labels": "Classifier, abnormalities of other patients",
            "table5_09": "Reports, as they are (Table 5, row 9)",
            "controls_reports": "Reports of other patients",
            "table5_01": "Untrained encoder (Table 5, row 1)",
        },
        pairs={
            ("controls_labels", "table4_04"): "Abnormalities of other patients",
            ("controls_reports", "table5_09"): "Reports of other patients",
        },
    ),
    "choices": Group(
        heading="Choices that the paper leaves open",
        about=("Each row is row 9 of Table 5 with one thing changed.",),
        rows={
            "table5_09": "Table 5, row 9",
            "choices_pooling": "shallower stages pooled the other way",
            "choices_position": "features enter after a layer's attention",
            "choices_reference": "8 times the tokens: reference stage N - 1",
            "choices_deeper": "the same, deeper stages interpolated, not padded with zeros",
        },
        pairs={
            ("choices_pooling", "table5_09"): "Pooling",
            ("choices_position", "table5_09"): "Position of the injection",
            ("choices_reference", "table5_09"): "Reference stage",
            ("choices_deeper", "choices_reference"): "Deeper stages",
        },
    ),
}  # fmt: skip
CONTROL: Final = "plain"  # an arm of a list that is called so is what the others are compared with


def group_of(name: str, results: Mapping[str, Result]) -> Group:
    """Find a group of arms, or the list of a reader's own of which there are records.

    Raises:
        ConfigError: there is neither.
    """
    if found := GROUPS.get(name):
        return found
    lists = {result.records[0].table for result in results.values()}
    own = {arm: arm for arm, result in results.items() if result.records[0].table == name}
    if not own:
        known = [*map(str, range(1, 6)), *GROUPS, "replication"]
        known += sorted(one for one in lists - GROUPS.keys() if not one.startswith("table"))
        raise ConfigError(f"table {name}", "no such table here", f"choose {', '.join(known)}")
    compared = [arm for arm in own if arm != CONTROL] if CONTROL in own else []
    pairs = {(arm, CONTROL): f"{arm} minus {CONTROL}" for arm in compared}
    return Group(f"Runs of `uvlm sweep {name}`", (), own, pairs, tuple(METRICS))


def group_effects(group: Group, results: Mapping[str, Result]) -> list[dict[str, Any]]:
    """Compare the pairs of a group, as one block."""
    if not group.pairs:
        return []
    pairs = [
        {"rows": [first, second]}
        | effect_of(shows, (results.get(first), results.get(second)), (None, None), group.metrics)
        for (first, second), shows in group.pairs.items()
    ]
    return [{"name": "differences", "claim": "Differences", "pairs": pairs}]
