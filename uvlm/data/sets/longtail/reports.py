"""Reports of `longtail`: much that is always true, a few findings, and silence about the rest.

A report has 150 to 250 words. What is present is stated once in the findings, in one of several
paraphrases, and usually again in the impression. What is absent is denied in a share of reports
that differs between abnormalities, as it does in CT-RATE, and otherwise not mentioned. The rest, at
least two words of five, is boilerplate. A report keeps to one hand in most of its sentences.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from uvlm.data.sets.longtail.grammar import Language
from uvlm.data.sets.phantom.reports import IMPORTANCE, PlantedFinding, ReportText

KEEP_HAND: Final = 0.7
MIN_WORDS, MAX_WORDS = 150, 250
BOILERPLATE_SHARE: Final = 0.4
_TARGET: Final = (155, 235)  # words, drawn evenly; a last sentence may pass it
_SAID_AGAIN: Final = 0.85  # of the findings, in the impression
MAX_IN_IMPRESSION: Final = 5


def write_report(
    findings: Sequence[PlantedFinding],
    denied: Mapping[str, float],
    words: Language,
    generator: np.random.Generator,
) -> ReportText:
    """Put planted findings into words.

    Args:
        findings: what was planted, at most one of each abnormality.
        denied: the share of reports that deny an abnormality which is absent.
        words: the language to write in.
        generator: chooses hand, order, denials and boilerplate, never what is true.
    """
    hand = _Hand(words, generator)
    impression = hand.impression(findings)
    claims = hand.claims(findings, denied)
    said = [text for texts in claims.values() for text in texts]
    blocks = hand.boilerplate(_num_words([*said, impression]))
    orders = words.names["orders"]
    order = orders[int(generator.integers(len(orders)))]
    text = " ".join(s for block in order for s in (*blocks[block], *claims[block]))
    clinical, technique = (hand.any_of(words.names[key]) for key in ("clinical", "technique"))
    return ReportText(clinical, technique, text, impression)


class _Hand:
    """A radiologist, who prefers one paraphrase of each thing."""

    def __init__(self, words: Language, generator: np.random.Generator) -> None:
        self._words = words
        self._generator = generator
        self._favourite = int(generator.integers(1 << 16))

    def any_of(self, choices: Sequence[str]) -> str:
        """Choose the favourite, or now and then another."""
        number = self._favourite
        if self._generator.random() >= KEEP_HAND:
            number = int(self._generator.integers(len(choices)))
        return choices[number % len(choices)]

    def claims(
        self, findings: Sequence[PlantedFinding], denied: Mapping[str, float]
    ) -> dict[str, list[str]]:
        """State what is present and deny some of what is not, by block, each in random order."""
        planted = {finding.abnormality: finding for finding in findings}
        by_block: dict[str, list[str]] = defaultdict(list)
        for name, wording in self._words.claims.items():
            if finding := planted.get(name):
                said = self._words.fill(self.any_of(wording.present), finding)
                by_block[wording.block].append(said)
            elif self._generator.random() < denied[name]:
                by_block[wording.block].append(self.any_of(wording.absent))
        return defaultdict(list, {b: self._shuffled(texts) for b, texts in by_block.items()})

    def impression(self, findings: Sequence[PlantedFinding]) -> str:
        """Name most of the findings again, the important ones first."""
        ranked = sorted(findings, key=lambda finding: IMPORTANCE.index(finding.abnormality))
        again = [f for f in ranked if self._generator.random() < _SAID_AGAIN]
        claims = self._words.claims
        named = [
            self._words.fill(self.any_of(claims[finding.abnormality].impression), finding)
            for finding in again[:MAX_IN_IMPRESSION]
        ]
        # Silent where something was found but nothing repeated: "normal" would be a lie.
        return " ".join(named) or ("" if findings else self.any_of(self._words.names["nothing"]))

    def boilerplate(self, num_words: int) -> dict[str, list[str]]:
        """Choose so many of the sentences that are always true that the report has its length."""
        pool = [(block, text) for block, texts in self._words.boilerplate.items() for text in texts]
        least = num_words * BOILERPLATE_SHARE / (1.0 - BOILERPLATE_SHARE)
        wanted = max(int(self._generator.integers(*_TARGET)) - num_words, least)
        chosen: set[int] = set()
        for number in self._generator.permutation(len(pool)):
            length = _num_words([pool[number][1] for number in chosen])
            if length >= min(wanted, MAX_WORDS - num_words - _longest(pool)):
                break
            chosen.add(int(number))
        by_block: dict[str, list[str]] = defaultdict(list)
        for number in sorted(chosen):
            by_block[pool[number][0]].append(pool[number][1])
        return by_block

    def _shuffled(self, texts: list[str]) -> list[str]:
        return [texts[number] for number in self._generator.permutation(len(texts))]


def _num_words(texts: Iterable[str]) -> int:
    return sum(len(text.split()) for text in texts)


def _longest(pool: Sequence[tuple[str, str]]) -> int:
    return max(len(text.split()) for _, text in pool)
