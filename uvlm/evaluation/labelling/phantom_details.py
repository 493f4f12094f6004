"""What phantom reports say beyond the findings' presence: attributes, and what impressions name.

Exact, as phantom.py is: the grammar of the reports, read backwards.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np

from uvlm.arrays import Counts
from uvlm.data.sets.phantom.reports import (
    WORDINGS,
    Lobe,
    PlantedFinding,
    Side,
    Size,
    write_impression,
)
from uvlm.evaluation.labelling.phantom import slots_of
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.attributes import Attributes
from uvlm.text.report import IMPRESSION_HEADING

_SENTENCE_END: Final = re.compile(r"[.:;!?]")


def attributes_of(text: str) -> dict[str, Attributes]:
    """Side, lobe and size of each abnormality that is present, as first described."""
    return {name: _attributes(*slots) for name, slots in slots_of(text).items()}


def label_impressions(texts: Sequence[str]) -> Counts:
    """One row per text, one column per abnormality; 1 where its impression names it."""
    named = [_named_in_impression(text) for text in texts]
    rows = [[int(name in names) for name in ABNORMALITIES] for names in named]
    return np.array(rows, dtype=np.int64).reshape(len(rows), len(ABNORMALITIES))


def impression_spans(text: str) -> list[tuple[int, int, str, bool]]:
    """(start, end, abnormality, True) of each item that an impression lists."""
    beginning, abnormality_of = _impressions()
    found = []
    for match in re.finditer(r"[^.:;!?]+", text):
        start = match.start() + len(match[0]) - len(match[0].lstrip())
        if not text[start : match.end()].lower().startswith(beginning):
            continue
        for item in re.finditer(r"[^,]+", text[: match.end()][start + len(beginning) :]):
            if name := abnormality_of.get(" ".join(item[0].lower().split())):
                place = start + len(beginning) + item.start()
                found.append((place, place + len(item[0]), name, True))
    return found


def _attributes(side: Side | None, lobe: Lobe | None, size: Size | None) -> Attributes:
    sides = ("right", "left") if side == "bilateral" else (side,)
    values = (sides, (lobe,), (size,))
    return Attributes(*(frozenset(filter(None, some)) for some in values))


def _named_in_impression(text: str) -> set[str]:
    """Find what the impression lists: "Signs of emphysema, lymphadenopathy."."""
    _, _, impression = text.partition(IMPRESSION_HEADING)
    beginning, abnormality_of = _impressions()
    named = set[str]()
    for part in _SENTENCE_END.split(impression):
        sentence = " ".join(part.lower().split())
        if sentence.startswith(beginning):
            items = sentence.removeprefix(beginning).split(",")
            named |= {abnormality_of.get(item.strip(), "") for item in items}
    return named - {""}


@cache
def _impressions() -> tuple[str, dict[str, str]]:
    """Say how an impression begins that names something, and index the names that it has."""
    first = WORDINGS[0]
    written = write_impression([PlantedFinding(first.abnormality)]).lower()
    names = {wording.in_impression: wording.abnormality for wording in WORDINGS}
    return written.partition(first.in_impression)[0], names
