"""What stands before a colon: a section of the report, or what the words behind it are about.

    INDICATION: Effusion?          nothing: a question, a history or a method asserts nothing
    IMPRESSION: 1. Nodule.         Statement("", "nodule")
    Pericardium: Small effusion.   Statement("pericardium", "small effusion")
    Airways:
     - Bronchiectasis: [Absent]    Statement("bronchiectasis", "absent")

The words themselves are in patterns/headings.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from uvlm.evaluation.labelling.notation import any_of
from uvlm.evaluation.labelling.sentences import split_line, split_lines

_COLON: Final = re.compile(r"([a-z][a-z0-9'/,&() -]{0,78}?) ?:(?!\d)-? ?(.*)")
_REMARK: Final = re.compile(r" ?\([^)]*\)")  # "indication(s)"
_LIST_MARK: Final = re.compile(
    r"(?:[-+>~#]+ *(?=[^\s+>~#-])|[(]?(?:\d{1,2}|[a-h]|i{1,3}|iv|v)[)] *|yes (?!$))+"
)
_NUM_WORDS: Final = 7  # of the longest heading
_NUM_REMEMBERED: Final = 1 << 16


class Statement(NamedTuple):
    """A sentence, and the heading that it stands under; "" if none says what it is about."""

    topic: str
    text: str
    is_first: bool = True  # right behind its heading


class Headings:
    """Knows headings.

    Args:
        patterns: the lists of patterns/headings.yaml by name.
    """

    def __init__(self, patterns: Mapping[str, Sequence[str]]) -> None:
        self._pattern = {name: any_of(lines) for name, lines in patterns.items()}
        self.take = lru_cache(_NUM_REMEMBERED)(self._take)  # reports repeat themselves

    def statements(self, text: str) -> Iterator[Statement]:
        """Yield what a report states, without the sections that assert nothing."""
        lines = [list(split_line(line)) for line in split_lines(text)]
        filled = [number for number, line in enumerate(lines) if line]
        last = filled[-1] if filled else 0
        last_section = max((n for n in filled if self._begins_section(lines[n])), default=0)
        reader = _Reader(self)
        for number, line in enumerate(lines):
            if line:
                yield from reader.read(line, is_last=number == last)
            else:
                reader.end_paragraph(is_headed_below=number < last_section)

    def _begins_section(self, line: Sequence[str]) -> bool:
        headings, _ = self.take(line[0])
        return bool(headings) and self.are("sections", headings[0])

    def are(self, kind: str, words: str) -> bool:
        """Whether words as a whole are of a kind."""
        return self._pattern[kind].fullmatch(words) is not None

    def have(self, kind: str, words: str) -> bool:
        """Whether something of a kind occurs in the words."""
        return self._pattern[kind].search(words) is not None

    def _take(self, sentence: str) -> tuple[tuple[str, ...], str]:
        """Take the headings off a sentence: "impression: 1) pleura: clear" has two."""
        headings: list[str] = []
        sentence = _without_mark(sentence)
        while (parts := self._split(sentence)) is not None:
            headings.append(parts[0])
            sentence = _without_mark(parts[1])
        return tuple(headings), "" if self.have("requests", sentence) else sentence

    def _split(self, sentence: str) -> tuple[str, str] | None:
        """Split a sentence behind its first heading, if it begins with one."""
        if self.are("alone", sentence):
            return sentence, ""
        if dash := self._pattern["before_a_dash"].match(sentence):
            return dash[0].rstrip(" -"), sentence[dash.end() :]
        match = _COLON.match(sentence)
        if match is None:
            return None
        heading = _REMARK.sub("", match[1])
        if heading.count(" ") >= _NUM_WORDS or self.have("says", heading):
            return None
        return heading, match[2]


class _Reader:
    """Goes through a report line by line and remembers what it stands under."""

    def __init__(self, headings: Headings) -> None:
        self._headings = headings
        self._above = ""  # the heading on a line of its own
        self._topic = ""  # of the sentences of this line that have no heading
        self._is_bare = False  # nothing stands below it yet
        self._is_silent = False  # under a heading that asserts nothing

    def read(self, line: Sequence[str], *, is_last: bool) -> Iterator[Statement]:
        """Yield the statements of one line."""
        self._topic, text = self._above, ""
        headings: tuple[str, ...] = ()
        was_headed = False
        for number, sentence in enumerate(line):
            headings, text = self._headings.take(sentence)
            own = self._enter(headings)
            was_headed |= bool(headings)
            if self._asserts(text, headings):
                yield Statement(own, text, is_first=bool(headings) or own == self._above)
            elif headings and text and is_last and not self._is_ended(line[number + 1 :]):
                self._is_silent = False  # or nothing would be left of the report
        if headings and not text:
            self._above = "" if self._headings.are("sections", headings[-1]) else headings[-1]
            self._is_bare = True
        elif was_headed:
            self._is_silent = self._is_bare = False
        else:
            self._is_bare = False

    def end_paragraph(self, *, is_headed_below: bool) -> None:
        """End what stood above, if it had something below it."""
        if self._is_bare or (self._is_silent and is_headed_below):
            return
        self._above, self._is_silent = "", False

    def _enter(self, headings: Sequence[str]) -> str:
        """Go below headings; return what the sentence behind them is about."""
        own = self._topic
        for heading in headings:
            is_section = self._headings.are("sections", heading)
            self._is_silent = is_section and self._headings.are("silent", heading)
            is_place = self._headings.have("places", heading)
            own = "" if is_section else heading if is_place else f"{self._above} {heading}".strip()
            if is_section or is_place:
                self._topic = own
        return own

    def _asserts(self, text: str, headings: Sequence[str]) -> bool:
        if self._is_silent and not headings and self._headings.are("titles", text):
            self._is_silent = False  # the examination is named between the request and the report
        return bool(text) and not self._is_silent

    def _is_ended(self, rest: Sequence[str]) -> bool:
        """Whether the rest of a line has something that ends a silent section."""
        return any(self._headings.take(s)[0] or self._headings.are("titles", s) for s in rest)


def _without_mark(sentence: str) -> str:
    """Drop the mark of a list item, and the brackets around a whole entry."""
    mark = _LIST_MARK.match(sentence)
    sentence = sentence[mark.end() if mark else 0 :]
    opened, closed = sentence.count("("), sentence.count(")")
    if sentence.startswith("(") and (opened > closed or (opened == 1 and sentence[-1] == ")")):
        sentence = sentence[1:].removesuffix(")" * (opened == closed))
    elif closed > opened:
        sentence = sentence.removesuffix(")")
    return sentence.strip(" ,")
