"""Labels of phantom reports, which are exact.

The phantom labeller is the report grammar read backwards: every sentence that the grammar can
write is listed with its meaning, and a report is looked up sentence by sentence. Sentences it
cannot write mean nothing, and a text that says both yes and no says yes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from typing import Final, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from uvlm.data.sets.phantom.reports import WORDINGS, Lobe, PlantedFinding, Side, Size, fill_slots
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.report import IMPRESSION_HEADING

Slots = tuple[Side | None, Lobe | None, Size | None]
_SENTENCE: Final = re.compile(r"[^.:;!?]+")


class PhantomLabeller:
    """Exact on phantom reports: labels of a written report are what was planted."""

    name: Final = "phantom"

    def label(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """One row a text, one column an abnormality in CT-RATE's order; 1 is present."""
        rows = [label_phantom_text(text) for text in texts]
        return np.array(rows, dtype=np.int64).reshape(len(rows), len(ABNORMALITIES))


class _Meaning(NamedTuple):
    """What one sentence of the grammar says."""

    abnormality: str
    is_present: bool
    slots: Slots


class _Claim(NamedTuple):
    """An abnormality that a text says is present, and where in the text it says so."""

    abnormality: str
    slots: Slots
    start: int
    end: int


def label_phantom_text(text: str) -> tuple[int, ...]:
    """0 or 1 for each of ABNORMALITIES; the impression repeats and decides nothing."""
    present = {claim.abnormality for claim in _claims(text)}
    return tuple(int(abnormality in present) for abnormality in ABNORMALITIES)


def slots_of(text: str) -> dict[str, Slots]:
    """(side, lobe, size) of each abnormality that is present, as first described."""
    slots: dict[str, Slots] = {}
    for claim in _claims(text):
        slots.setdefault(claim.abnormality, claim.slots)
    return slots


def highlight_spans(text: str) -> list[tuple[int, int, str]]:
    """(start, end, abnormality) of each sentence that says an abnormality is present."""
    return [(claim.start, claim.end, claim.abnormality) for claim in _claims(text)]


def _claims(text: str) -> Iterator[_Claim]:
    """Go through the findings sentence by sentence; spans leave out blanks and full stops."""
    findings, _, _ = text.partition(IMPRESSION_HEADING)
    meanings = _meanings()
    for match in _SENTENCE.finditer(findings):
        sentence = match.group()
        meaning = meanings.get(" ".join(sentence.lower().split()))
        if meaning is not None and meaning.is_present:
            start = match.start() + len(sentence) - len(sentence.lstrip())
            end = match.start() + len(sentence.rstrip())
            yield _Claim(meaning.abnormality, meaning.slots, start, end)


@cache
def _meanings() -> dict[str, _Meaning]:
    """Every sentence of the grammar in lower case without its full stop."""
    meanings: dict[str, _Meaning] = {}
    for wording in WORDINGS:
        for template in wording.absent:
            meaning = _Meaning(wording.abnormality, False, (None, None, None))
            _add(meanings, template, meaning)
        for template, slots in product(wording.present, _fillable(wording.present[0])):
            finding = PlantedFinding(wording.abnormality, *slots)
            meaning = _Meaning(wording.abnormality, True, slots)
            _add(meanings, fill_slots(template, finding), meaning)
    return meanings


def _add(meanings: dict[str, _Meaning], sentence: str, meaning: _Meaning) -> None:
    """Refuse a grammar in which one sentence has two meanings."""
    key = sentence.lower().rstrip(".")
    if meanings.setdefault(key, meaning) != meaning:
        raise ValueError(f"{sentence!r} means {meanings[key]} and {meaning}")


def _fillable(template: str) -> Iterator[Slots]:
    """Every (side, lobe, size) that a template can express."""
    sides = (None, *get_args(Side)) if "{lung}" in template or "{pleura}" in template else (None,)
    lobes = (None, *get_args(Lobe)) if "{lung}" in template else (None,)
    sizes = (None, *get_args(Size)) if "{size}" in template or "{volume}" in template else (None,)
    yield from product(sides, lobes, sizes)
