"""Where a report says what a labeller reads in it, found by asking the labeller about its parts.

    There is no effusion, but a nodule is seen in the left lung.
                --------        ======
    claimed  the words that cannot be left out if the abnormality is still to be read
    named    words that would claim an abnormality if they stood alone, and here do not: they are
             denied, or stand in a part of the report that asserts nothing

Nothing is known of how the labeller works, so what is marked is what it reads, whatever its rules
are. It is asked some hundred times per report.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from uvlm.arrays import Counts
from uvlm.text.claims import Span

_SENTENCE: Final = re.compile(r"[^.:;!?\n]*(?:[.:;!?\n]+|$)")
_WORD: Final = re.compile(r"[^\s.,:;!?()]+")
_LONGEST_NAME: Final = 8  # words that name an abnormality without claiming it


class PhraseFinder:
    """Finds the phrases of a labeller that reads a text fast and always alike.

    Args:
        label: one row per text, one column per abnormality.
        names: the abnormalities.
    """

    def __init__(self, label: Callable[[Sequence[str]], Counts], names: Sequence[str]) -> None:
        self._label = label
        self._names = names

    def claimed(self, text: str) -> list[Span]:
        """Find the phrases without which an abnormality would not be read, in order."""
        columns = np.flatnonzero(self._label([text])[0]).tolist()
        spans = [(*span, self._names[c]) for c in columns for span in self._claims(text, c)]
        return sorted(spans)

    def named(self, text: str) -> list[Span]:
        """Find the phrases that would claim an abnormality alone, and do not here."""
        claimed, found = self.claimed(text), list[Span]()
        for start, end in _sentences(text):
            for first, last, name in self._names_in(text, start, end):
                taken = any(a < last and first < b for a, b, claim in claimed if claim == name)
                if not taken:
                    found.append((first, last, name))
        return sorted(found)

    def _claims(self, text: str, column: int) -> list[tuple[int, int]]:
        """Find the first claim of one abnormality, blank it, and look for the next."""
        spans: list[tuple[int, int]] = []
        while (sentence := self._first_claim(text, column)) is not None:
            start, end = self._narrowed(text, *sentence, column)
            spans.append((start, end))
            text = text[:start] + " " * (end - start) + text[end:]
        return spans

    def _first_claim(self, text: str, column: int) -> tuple[int, int] | None:
        """Find the first sentence up to which the abnormality is claimed."""
        if not self._label([text])[0, column]:
            return None
        sentences = _sentences(text)
        claimed = self._label([text[:end] for _, end in sentences])[:, column]
        return sentences[int(claimed.argmax())] if claimed.any() else sentences[-1]

    def _narrowed(self, text: str, start: int, end: int, column: int) -> tuple[int, int]:
        """Leave out words, the last ones first, as long as what stands before still claims it."""
        words = _words(text, start, end)
        before = text[:start]

        def still_claimed(first: int, last: int) -> bool:
            part = text[words[first][0] : words[last][1]]
            return bool(self._label([before + part])[0, column])

        first, last = 0, len(words) - 1
        while last > first and still_claimed(first, last - 1):
            last -= 1
        while first < last and still_claimed(first + 1, last):
            first += 1
        return words[first][0], words[last][1]

    def _names_in(self, text: str, start: int, end: int) -> list[Span]:
        """Find the shortest phrases of a sentence that claim an abnormality alone."""
        words, found = _words(text, start, end), list[Span]()
        places = [
            (words[i][0], words[i + count][1])
            for count in range(min(_LONGEST_NAME, len(words)))
            for i in range(len(words) - count)
        ]
        labels = self._label([text[a:b] for a, b in places]) if places else np.zeros((0, 0))
        for row, column in np.argwhere(labels).tolist():
            (a, b), name = places[row], self._names[column]
            if not any(a <= x and y <= b for x, y, known in found if known == name):
                found.append((a, b, name))
        return found


def _sentences(text: str) -> list[tuple[int, int]]:
    """Cut a text where a labeller may: (start, end) of the parts that have a word."""
    parts = (match.span() for match in _SENTENCE.finditer(text))
    return [(start, end) for start, end in parts if _WORD.search(text, start, end)]


def _words(text: str, start: int, end: int) -> list[tuple[int, int]]:
    return [match.span() for match in _WORD.finditer(text, start, end)]
