"""Labels of phantom reports, which are exact.

The phantom labeller is the report grammar read backwards: every sentence that the grammar can
write is listed with its meaning, and a report is looked up sentence by sentence. A sentence that it
cannot write means nothing, and a text that says both yes and no says yes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from typing import Final, NamedTuple, get_args

import numpy as np

from uvlm.arrays import Counts
from uvlm.data.sets.phantom.reports import WORDINGS, Lobe, PlantedFinding, Side, Size, fill_slots
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.report import IMPRESSION_HEADING

Slots = tuple[Side | None, Lobe | None, Size | None]
SENTENCE: Final = re.compile(r"[^.:;!?\s](?:[^.:;!?]*[^.:;!?\s])?")  # no blanks at its ends


class PhantomLabeller:
    """Exact on phantom reports: labels of a written report are what was planted."""

    name: Final = "phantom"

    def label(self, texts: Sequence[str]) -> Counts:
        """One row per text, one column per abnormality in CT-RATE's order; 1 is present."""
        rows = [label_phantom_text(text) for text in texts]
        return np.array(rows, dtype=np.int64).reshape(len(rows), len(ABNORMALITIES))


class _Meaning(NamedTuple):
    """What one sentence of the grammar says."""

    abnormality: str
    is_present: bool
    slots: Slots


def label_phantom_text(text: str) -> tuple[int, ...]:
    """0 or 1 for each of ABNORMALITIES; the impression repeats and decides nothing."""
    present = {meaning.abnormality for *_, meaning in _claims(text)}
    return tuple(int(abnormality in present) for abnormality in ABNORMALITIES)


def slots_of(text: str) -> dict[str, Slots]:
    """(side, lobe, size) of each abnormality that is present, as first described."""
    slots: dict[str, Slots] = {}
    for *_, meaning in _claims(text):
        slots.setdefault(meaning.abnormality, meaning.slots)
    return slots


def highlight_spans(text: str) -> list[tuple[int, int, str]]:
    """(start, end, abnormality) of each sentence that says an abnormality is present."""
    return [(start, end, meaning.abnormality) for start, end, meaning in _claims(text)]


def statement_spans(text: str) -> list[tuple[int, int, str, bool]]:
    """(start, end, abnormality, whether it is there) of each sentence of the grammar."""
    found = []
    for match in SENTENCE.finditer(text):
        meaning = _meanings().get(" ".join(match[0].lower().split()))
        if meaning is not None:
            found.append((match.start(), match.end(), meaning.abnormality, meaning.is_present))
    return found


def _claims(text: str) -> Iterator[tuple[int, int, _Meaning]]:
    """Find the sentences of the findings that say an abnormality is present, and their spans."""
    findings, _, _ = text.partition(IMPRESSION_HEADING)
    for match in SENTENCE.finditer(findings):
        meaning = _meanings().get(" ".join(match[0].lower().split()))
        if meaning is not None and meaning.is_present:
            yield match.start(), match.end(), meaning


@cache
def _meanings() -> dict[str, _Meaning]:
    """Index the grammar by its sentences, in lower case without their full stop."""
    meanings: dict[str, _Meaning] = {}
    for sentence, meaning in _sentences():
        key = sentence.lower().rstrip(".")
        if meanings.setdefault(key, meaning) != meaning:
            raise ValueError(f"{sentence!r} means {meanings[key]} and {meaning}")
    return meanings


def _sentences() -> Iterator[tuple[str, _Meaning]]:
    """Every sentence that the grammar can write, with its meaning."""
    for wording in WORDINGS:
        for template in wording.absent:
            yield template, _Meaning(wording.abnormality, False, (None, None, None))
        for template, slots in product(wording.present, _fillable(wording.present[0])):
            finding = PlantedFinding(wording.abnormality, *slots)
            yield fill_slots(template, finding), _Meaning(wording.abnormality, True, slots)


def _fillable(template: str) -> Iterator[Slots]:
    """Every (side, lobe, size) that a template can express."""
    sides = (None, *get_args(Side)) if "{lung}" in template or "{pleura}" in template else (None,)
    lobes = (None, *get_args(Lobe)) if "{lung}" in template else (None,)
    sizes = (None, *get_args(Size)) if "{size}" in template or "{volume}" in template else (None,)
    yield from product(sides, lobes, sizes)
