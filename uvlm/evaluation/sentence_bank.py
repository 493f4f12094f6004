"""What training reports say about each abnormality, sentence by sentence, learned by counting.

A sentence claims an abnormality if the labeller reads it there. It denies one if it claims nothing
and is all but never written where the abnormality is present. Everything else is boilerplate,
which may still be at odds with some labels ("No active disease."). A report for any set of
abnormalities can then be composed of the most frequent sentences.

S sentences, A abnormalities.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Flags
from uvlm.text.report import Report

Label = Callable[[Sequence[str]], Flags]  # texts to (N, A)

MAX_SENTENCES: Final = 3000
MIN_SHARE: Final = 0.1  # a sentence written in fewer of the reports it fits is not typical
RARE: Final = 0.1  # of the co-occurrences that chance would bring
MIN_EXPECTED: Final = 5.0  # below this, never seen together may be chance
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+")


@dataclass(frozen=True)
class Sentence:
    """A frequent sentence of one report section; abnormalities by their index."""

    text: str
    count: int
    position: float
    claims: frozenset[int]
    denies: frozenset[int]
    never_with: frozenset[int]
    always_with: frozenset[int]


@dataclass(frozen=True)
class SectionBank:
    """The frequent sentences of one section, most frequent first."""

    sentences: tuple[Sentence, ...]
    mean_length: float
    num_with: tuple[int, ...]
    num_reports: int

    def compose(self, present: Flags, always_claim: bool) -> str:
        """Write the section for a set of abnormalities.

        One sentence per abnormality, claimed or denied, then boilerplate up to the usual length.

        Args:
            present: (A,) which abnormalities to claim.
            always_claim: claim what is present even where most reports leave it out here.
        """
        chosen: list[Sentence] = []
        for abnormality in np.flatnonzero(present):
            chosen += self._claim(int(abnormality), always_claim)
        for abnormality in np.flatnonzero(~present):
            if not any(int(abnormality) in sentence.denies for sentence in chosen):
                chosen += self._denial(int(abnormality), present)
        boilerplate = [s for s in self.sentences if not s.claims and not s.denies]
        room = max(round(self.mean_length) - len(chosen), 0)
        chosen += [s for s in boilerplate if _fits(s, present)][:room]
        return _in_order(chosen)

    def unclaiming(self, present: Flags) -> list[Sentence]:
        """List the sentences that claim nothing and fit, most frequent first."""
        return [s for s in self.sentences if not s.claims and _fits(s, present)]

    def _claim(self, abnormality: int, always: bool) -> list[Sentence]:
        least = 0.0 if always else MIN_SHARE * self.num_with[abnormality]
        found = (s for s in self.sentences if s.claims == {abnormality} and s.count >= least)
        return [*islice(found, 1)]

    def _denial(self, abnormality: int, present: Flags) -> list[Sentence]:
        least = MIN_SHARE * (self.num_reports - self.num_with[abnormality])
        found = (s for s in self.sentences if abnormality in s.denies and s.count >= least)
        return [*islice((s for s in found if _fits(s, present)), 1)]


@dataclass(frozen=True)
class SentenceBank:
    """The frequent sentences of findings and impressions."""

    findings: SectionBank
    impression: SectionBank

    def compose(self, present: Flags) -> str:
        """Write a report that claims exactly these abnormalities, (A,), in the most usual words."""
        return Report(
            self.findings.compose(present, always_claim=True),
            self.impression.compose(present, always_claim=False),
        ).text

    def most_frequent(self, present: Flags, num_sentences: int) -> str:
        """Write a report of the most frequent sentences that claim nothing and fit."""
        sections = [part.unclaiming(present) for part in (self.findings, self.impression)]
        ranked = sorted((s for part in sections for s in part), key=lambda s: (-s.count, s.text))
        chosen = ranked[:num_sentences]
        return Report(
            *(_in_order([s for s in part if any(s is c for c in chosen)]) for part in sections)
        ).text


def learn_sentences(reports: Sequence[Report], labels: Flags, label: Label) -> SentenceBank:
    """Count what reports, with their (N, A) labels, say in each section."""
    return SentenceBank(
        _learn_section([report.findings for report in reports], labels, label),
        _learn_section([report.impression for report in reports], labels, label),
    )


def split_sentences(text: str) -> list[str]:
    """Cut after sentence marks followed by a space, so that decimals stay whole."""
    return [sentence for sentence in _SENTENCE_END.split(text.strip()) if sentence]


def _learn_section(sections: Sequence[str], labels: Flags, label: Label) -> SectionBank:
    written = [split_sentences(section) for section in sections]
    counts = Counter(sentence for sentences in written for sentence in set(sentences))
    ranked = sorted(counts, key=lambda text: (-counts[text], text))[:MAX_SENTENCES]
    frequent = set(ranked)
    places: dict[str, list[float]] = defaultdict(list)
    rows: dict[str, list[int]] = defaultdict(list)
    for row, sentences in enumerate(written):
        for place, text in enumerate(sentences):
            if text in frequent:
                places[text].append(place / len(sentences))
                rows[text].append(row)
    claims = label(ranked) if ranked else np.zeros((0, labels.shape[1]), dtype=bool)
    prevalence = labels.mean(axis=0)
    known = [
        _describe(
            text, float(np.mean(places[text])), labels[sorted(set(rows[text]))], told, prevalence
        )
        for text, told in zip(ranked, claims, strict=True)
    ]
    return SectionBank(
        tuple(known),
        float(np.mean([len(sentences) for sentences in written])) if written else 0.0,
        tuple(int(count) for count in labels.sum(axis=0)),
        len(sections),
    )


def _describe(
    text: str, position: float, labels: Flags, claimed: Flags, prevalence: npt.NDArray[np.float64]
) -> Sentence:
    """Read one sentence from the (n, A) labels of the reports that contain it."""
    expected = prevalence * len(labels)
    never = _is_rare(labels.sum(axis=0), expected)
    always = _is_rare((~labels).sum(axis=0), len(labels) - expected)
    denied = never & (expected >= MIN_EXPECTED) & ~claimed.any()
    sets = [_indices(flags) for flags in (claimed, denied, never, always)]
    return Sentence(text, len(labels), position, *sets)


def _is_rare(seen: npt.NDArray[np.int64], expected: npt.NDArray[np.float64]) -> Flags:
    return (seen <= RARE * expected) & (expected > 0)


def _in_order(sentences: Sequence[Sentence]) -> str:
    """Join sentences in the order in which reports use them."""
    return " ".join(s.text for s in sorted(sentences, key=lambda s: (s.position, s.text)))


def _indices(flags: Flags) -> frozenset[int]:
    return frozenset(int(index) for index in np.flatnonzero(flags))


def _fits(sentence: Sentence, present: Flags) -> bool:
    """Whether the sentence has been written beside all that is present and all that is absent."""
    contradicts = any(present[index] for index in sentence.never_with)
    return not contradicts and all(present[index] for index in sentence.always_with)
