"""Labels of `longtail` reports, which are exact: its grammar read backwards, in either wording.

What a report does not mention is absent. A sentence that the grammar cannot write means nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Final

import numpy as np

from uvlm.arrays import Counts
from uvlm.data.sets.longtail.grammar import STYLES, language
from uvlm.data.sets.phantom.reports import PlantedFinding
from uvlm.evaluation.labelling.phantom import SENTENCE, Slots
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.report import IMPRESSION_HEADING


class LongtailLabeller:
    """Exact on reports of `longtail`: labels of a written report are what was planted."""

    name: Final = "longtail"

    def label(self, texts: Sequence[str]) -> Counts:
        """One row per text, one column per abnormality in CT-RATE's order; 1 is present."""
        rows = [[int(name in found) for name in ABNORMALITIES] for found in map(slots_of, texts)]
        return np.array(rows, dtype=np.int64).reshape(len(rows), len(ABNORMALITIES))


def slots_of(text: str) -> dict[str, Slots]:
    """(side, lobe, size) of each abnormality that the findings state, as first described."""
    slots: dict[str, Slots] = {}
    for *_, finding in _claims(text):
        slots.setdefault(finding.abnormality, (finding.side, finding.lobe, finding.size))
    return slots


def highlight_spans(text: str) -> list[tuple[int, int, str]]:
    """(start, end, abnormality) of each sentence that says an abnormality is present."""
    return [(start, end, finding.abnormality) for start, end, finding in _claims(text)]


def _claims(text: str) -> Iterator[tuple[int, int, PlantedFinding]]:
    findings, _, _ = text.partition(IMPRESSION_HEADING)
    for match in SENTENCE.finditer(findings):
        if finding := _stated().get(" ".join(match[0].lower().split())):
            yield match.start(), match.end(), finding


@cache
def _stated() -> dict[str, PlantedFinding]:
    """Index every sentence that states a finding, in lower case without its full stop."""
    stated: dict[str, PlantedFinding] = {}
    for sentence, finding in chain(*(language(style).sentences() for style in STYLES)):
        if stated.setdefault(sentence.lower().rstrip("."), finding) != finding:
            raise ValueError(f"{sentence!r} states more than one finding")
    return stated
