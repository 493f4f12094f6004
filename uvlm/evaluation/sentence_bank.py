"""What training reports say about each abnormality, sentence by sentence, learned by counting.

A sentence claims an abnormality if the labeller reads it there. It denies one if it claims nothing
and is hardly ever written where the abnormality is present. Everything else is boilerplate, which
may still be at odds with some labels ("No active disease."). From the most frequent sentences a
report can then be composed for any set of abnormalities.

S sentences, A abnormalities.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from uvlm.arrays import Counts, Flags, Floats
from uvlm.text.report import Report

Label = Callable[[Sequence[str]], Flags]  # texts to (N, A)

MAX_SENTENCES: Final = 3000
MIN_SHARE: Final = 0.1  # a sentence in fewer of the reports that it fits is not typical
RARE: Final = 0.1  # of the co-occurrences that chance would bring
MIN_EXPECTED: Final = 5.0  # below this, never having been seen together may be chance
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+")


@dataclass(frozen=True, eq=False)
class SectionBank:
    """The S frequent sentences of one section, most frequent first.

    Args:
        texts: the sentences.
        counts: (S,) reports that contain each.
        positions: (S,) mean place in the section, from 0 to 1.
        claims: (S, A) abnormalities that the labeller reads in it.
        denies: (S, A) abnormalities that it rules out.
        never_with: (S, A) abnormalities beside which it is hardly ever written.
        always_with: (S, A) abnormalities without which it is hardly ever written.
        num_with: (A,) reports that show each abnormality.
        num_reports: all reports.
        mean_length: sentences in a section.
    """

    texts: tuple[str, ...]
    counts: Counts
    positions: Floats
    claims: Flags
    denies: Flags
    never_with: Flags
    always_with: Flags
    num_with: Counts
    num_reports: int
    mean_length: float

    def fits(self, present: Flags) -> Flags:
        """Tell which sentences are written beside all that is present and all that is absent."""
        contradicts = (self.never_with & present) | (self.always_with & ~present)  # (S, A)
        return np.asarray(~contradicts.any(axis=1))

    def compose(self, present: Flags, always_claim: bool) -> str:
        """Write the section for a set of abnormalities.

        One sentence per abnormality, claimed or denied, then boilerplate up to the usual length.

        Args:
            present: (A,) which abnormalities to claim.
            always_claim: claim what is present even where most reports leave it out here.
        """
        fits, chosen = self.fits(present), list[int]()
        claims_one = self.claims.sum(axis=1) == 1
        for number in np.flatnonzero(present):
            least = 0.0 if always_claim else MIN_SHARE * self.num_with[number]
            # Rows are ordered by count, so the first that qualifies is the most usual one.
            usual = self.claims[:, number] & claims_one & (self.counts >= least)
            chosen += [*np.flatnonzero(usual)[:1]]
        for number in np.flatnonzero(~present):
            # "Heart and pleura are normal." may already have denied this one, too.
            if not self.denies[chosen, number].any():
                least = MIN_SHARE * (self.num_reports - self.num_with[number])
                usual = self.denies[:, number] & fits & (self.counts >= least)
                chosen += [*np.flatnonzero(usual)[:1]]
        boilerplate = ~(self.claims | self.denies).any(axis=1) & fits
        room = max(round(self.mean_length) - len(chosen), 0)
        return self.in_order([*chosen, *np.flatnonzero(boilerplate)[:room]])

    def in_order(self, chosen: Iterable[int]) -> str:
        """Join sentences in the order in which reports use them."""
        ordered = sorted(chosen, key=lambda row: (self.positions[row], self.texts[row]))
        return " ".join(self.texts[row] for row in ordered)


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
        parts = (self.findings, self.impression)
        ranked = sorted(
            (-part.counts[row], part.texts[row], number, row)
            for number, part in enumerate(parts)
            for row in np.flatnonzero(part.fits(present) & ~part.claims.any(axis=1)).tolist()
        )
        chosen: tuple[list[int], list[int]] = ([], [])
        for _, _, number, row in ranked[:num_sentences]:
            chosen[number].append(row)
        return Report(*map(SectionBank.in_order, parts, chosen)).text


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
    rows: dict[str, set[int]] = defaultdict(set)
    for row, sentences in enumerate(written):
        for place, text in enumerate(sentences):
            if text in frequent:
                places[text].append(place / len(sentences))
                rows[text].add(row)
    claims = label(ranked) if ranked else np.zeros((0, labels.shape[1]), dtype=bool)
    # How often each sentence meets each abnormality, and how often it would by chance: (S, A).
    seen = np.array([labels[[*rows[text]]].sum(axis=0) for text in ranked]).reshape(claims.shape)
    times = np.array([counts[text] for text in ranked], dtype=np.int64)
    expected = times[:, None] * labels.mean(axis=0)
    never_with = _is_rare(seen, expected)
    return SectionBank(
        texts=tuple(ranked),
        counts=times,
        positions=np.array([np.mean(places[text]) for text in ranked]),
        claims=claims,
        # Seldom seen together is a denial only if chance would have brought it about often.
        denies=never_with & (expected >= MIN_EXPECTED) & ~claims.any(axis=1, keepdims=True),
        never_with=never_with,
        always_with=_is_rare(times[:, None] - seen, times[:, None] - expected),
        num_with=labels.sum(axis=0),
        num_reports=len(sections),
        mean_length=float(np.mean([len(sentences) for sentences in written])) if written else 0.0,
    )


def _is_rare(seen: Counts, expected: Floats) -> Flags:
    return (seen <= RARE * expected) & (expected > 0)
