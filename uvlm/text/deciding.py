"""Words that decide what a report says: the loss of stage 3 may weigh them more.

    "No hiatal hernia."                          No
    "Small nodule in the left upper lobe."       Small, nodule, left, upper
    "There is an effusion on the right side."    There, effusion, right
    "The bones are intact."                      none

A word decides if its sentence would be read otherwise without it, or with another side, lobe or
size in its place: as another abnormality, or one of another place or size. Of a sentence with such
words, or that claims an abnormality, the first word decides too: who writes from left to right
chooses there what to speak of. Each sentence is read by itself, so a word that another of the same
sentence repeats decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from uvlm.text.attributes import VALUES, AttributeReader

Place = tuple[int, int]  # start and end in characters
_WORD: Final = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_SENTENCE: Final = re.compile(r"\S.*?(?:[.!?;]+(?=\s|$)|\n|$)", re.DOTALL)
_NUM_REMEMBERED: Final = 1 << 16


class DecidingWords:
    """Finds the places of deciding words in a report.

    Args:
        read: reads the abnormalities that a text claims, with side, lobe and size, and parts of
            sentences as well, as the labeller `rules` does.
        exact: another reader, which may know whole sentences only.
    """

    def __init__(self, read: AttributeReader, exact: AttributeReader | None = None) -> None:
        self._read = read
        self._readers = (read,) if exact is None else (read, exact)
        # Reports repeat their sentences.
        self._remembered = lru_cache(_NUM_REMEMBERED)(self._of_sentence)

    def __call__(self, text: str) -> list[Place]:
        """Find them in order."""
        found = []
        for sentence in _SENTENCE.finditer(text):
            begin = sentence.start()
            found += [(begin + a, begin + b) for a, b in self._remembered(sentence.group())]
        return found

    def _of_sentence(self, sentence: str) -> tuple[Place, ...]:
        words = [match.span() for match in _WORD.finditer(sentence)]
        decide = {word for word in words if self._decides(sentence, word)}
        if words and (decide or any(read(sentence) for read in self._readers)):
            decide.add(_first(sentence, words))
        return tuple(sorted(decide))

    def _decides(self, sentence: str, word: Place) -> bool:
        start, end = word
        if self._read(sentence[:start] + sentence[end:]) != self._read(sentence):
            return True
        changed = [sentence[:start] + o + sentence[end:] for o in _others(sentence[start:end])]
        return any(read(text) != read(sentence) for text in changed for read in self._readers)


def _others(word: str) -> Iterator[str]:
    """Yield the words of the same kind: the other side, lobes or sizes."""
    for values in VALUES.values():
        if word.lower() in values:
            yield from (value for value in values if value != word.lower())


def _first(sentence: str, words: list[Place]) -> Place:
    """Find the first word behind a heading such as "Findings:"."""
    behind = [word for word in words if ":" not in sentence[word[0] :]]
    return (behind or words)[0]
