"""Whether a text is in English, as far as the words of radiology reports tell.

Patterns written for English find nothing in another language, and a row of zeros would look like a
healthy patient. So texts of which hardly any word is known are told apart before they are labelled.
The words are in known_words.txt; what is generated for a score is never refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from uvlm.errors import DataError
from uvlm.tables import refusal_of

# English reports have 0.9 and more, other languages 0.35 and less (docs/report_labels.md).
LEAST_SHARE: Final = 0.5
# Single letters are no words, but every character of Chinese and Japanese is taken for one.
_WORD: Final = re.compile(r"[\u3040-\u9fff]|[^\W\d_\u3040-\u9fff]{2,}")
# These headings may be ours, written before a text of any language.
_HEADING: Final = re.compile(r"\b(?:findings|impressions?):")
_ENDINGS: Final = ("s", "es", "ed", "d", "ing", "ly", "al")
_PREFIX: Final = re.compile(
    r"(?:anti|bi|endo|extra|hemi|hyper|hypo|infra|inter|intra|micro|multi|non|over|para|peri|post"
    r"|pre|pseudo|re|retro|semi|sub|supra|trans|un|under)(?=\w{4})"
)
_SHORTEST_STEM: Final = 4  # endings make foreign words of shorter ones
_REMEDY: Final = "translate these reports, leave them out, or let the labeller llm read them"
_NUM_REMEMBERED_SENTENCES: Final = 1 << 16


class OtherLanguageError(DataError):
    """Texts are hardly English; `facts` has the number of each, from 0, and what was counted."""

    def __init__(self, facts: Sequence[tuple[int, str]]) -> None:
        super().__init__("reports", f"{len(facts)} are hardly English: {facts[0][1]}", _REMEDY)
        self.facts = facts

    def at(self, path: Path, places: Sequence[str], remedy: str = "") -> DataError:
        """Name the rows of the table that the texts came from."""
        problems = [
            f"{places[number]}: {fact}, so it is hardly English" for number, fact in self.facts
        ]
        return refusal_of(path, problems, f"{_REMEDY}{remedy}")


@dataclass(frozen=True)
class WordCount:
    """How many words texts have, and how many of them are known."""

    known: int
    words: int

    @property
    def share(self) -> float:
        """The share of known words; 1 for texts that say nothing."""
        return self.known / self.words if self.words else 1.0


def count_known(texts: Iterable[str]) -> WordCount:
    """Count the words of texts; numbers are none."""
    counts = [_count(sentence) for text in texts for sentence in text.split(".")]
    return WordCount(sum(known for known, _ in counts), sum(words for _, words in counts))


def check_language(texts: Sequence[str]) -> None:
    """Refuse texts of which hardly any word is known; empty ones are none of its business.

    Raises:
        OtherLanguageError: there are such texts.
    """
    if facts := [*_unknown(texts)]:
        raise OtherLanguageError(facts)


def _unknown(texts: Sequence[str]) -> Iterator[tuple[int, str]]:
    for number, text in enumerate(texts):
        count = count_known([text])
        if count.share < LEAST_SHARE:
            yield number, f"{count.known} of {count.words} words are known"
        elif not count.words and text.strip():
            yield number, "there is no word in the text"


@lru_cache(_NUM_REMEMBERED_SENTENCES)
def _count(sentence: str) -> tuple[int, int]:
    """Count known words and words; two in three sentences of reports have occurred before."""
    words = _WORD.findall(_HEADING.sub(" ", sentence.lower()))
    return sum(map(_known_words().__getitem__, words)), len(words)


class _Words(dict[str, bool]):
    """Which words are known; a new word is looked at once."""

    def __missing__(self, word: str) -> bool:
        stem = _PREFIX.sub("", word, count=1)
        self[word] = known = stem != word and self.get(stem, False)
        return known


@cache
def _known_words() -> _Words:
    lines = files(__package__).joinpath("known_words.txt").read_text("utf-8").splitlines()
    words = {word for line in lines if not line.startswith("#") for word in line.split()}
    stems = [word for word in words if len(word) >= _SHORTEST_STEM]
    endings = {stem + ending for stem in stems for ending in _ENDINGS}
    return _Words(dict.fromkeys(words | endings, True))
