"""Lines and sentences of a report, with one spelling for each term that has several.

headings.py says what the sentences stand under, denials.py what they assert.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Final

_CHARACTERS: Final = str.maketrans(
    dict.fromkeys("\u2018\u2019\u02bc`\u00b4", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb\u2022\u25aa\u25cf\u00b7", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
    | {"\u2610": "[ ]", "\u2611": "[x]", "\u2612": "[x]"}
)
_BOXES: Final = ((re.compile(r"\[ *\]"), " no "), (re.compile(r"\[[xX]\]"), " yes "))
_PLAIN: Final = str.maketrans("[]{}*_", "()()  ")
# A capital, a mark of a list or a heading begins a line; other breaks are those of the page.
_LINE: Final = re.compile(
    r"\n\s*\n|\n(?=\s*(?:[-*>\"A-Z(+[]|\d+[.)]\s|\w\)|[a-z][\w/,&() -]{1,40}:))"
)
# Of a text in capitals or without: a line that was not broken by the width of the page.
_SHORT_LINE: Final = re.compile(
    r"^(?=.{4,50}$)(.*\w \(?(?!(?:no|not|of|the|in|and|or|is|are|was|were|with|without|to|an?|on|at"
    r"|for|by|from|has|have|been)$)[\w-]+[.)]?)\n(?=\S)",
    re.MULTILINE,
)
# A full stop inside a number or a date ends no sentence, nor does a question mark in parentheses.
_BREAK: Final = re.compile(r"\.+(?!\d)|(?<!\d)\.(?=\d)|[;!\"]+|'{2,}|\?(?!\s*[,?)]|\w)")
_MARK_IN_LINE: Final = re.compile(r"\s(?=\(?[a-f]\)\s)|\s(?=\d{1,2}\)\s+[A-Z])")
_ABBREVIATED: Final = re.compile(
    r"\b(neg|approx|vs|resp|bilat|mod|sig|prob|poss|incl|esp|lt|rt|prev|susp)\. (?=[a-z])", re.I
)
_LOWER_AFTER_STOP: Final = re.compile(r"\. [a-z]")
_MAX_SENTENCE: Final = 2000  # characters; a model may write on without a full stop

_STATION: Final = (
    r"(?:mediastin\w*|hil(?:ar|um|a)|perihilar|axillary|supraclavicular|infraclavicular|cervical"
    r"|(?:para|pre|pre-?para)tracheal|subcarinal|prevascular|paraaortic|retroperitoneal|mesenteric"
    r"|inguinal|intrathoracic|nodal|internal mammary|epicardial|aortopulmonary|retrocrural"
    r"|bulky|generali[sz]ed|diffuse|pathological|significant|new|prominent|reactive|no|borderline)"
)
_NODAL_LAD: Final = re.compile(
    rf"\b({_STATION}(?:[,/]? (?:or|and|{_STATION}))*,? |{_STATION}/)lad\b"
    rf"|\blads\b|\blad(?= (?:in|of|at|within) (?:the )?(?:\w+ )?{_STATION})"
)
_CORONARY: Final = re.compile(
    r"\b(?:calcif\w*|athero\w*|atero\w*|plaques?|stent\w*|steno\w*|coronar\w*|arter\w*|rca|lcx|cx"
    r"|circumflex|proximal|distal|mid|cabg|lima|bypass|vessels?|cac)\b"
)
_HAS_SPELLINGS: Final = re.compile(
    r"glass|gg[on]|n't|can(?:no|')t|w/|quer|[?&+]"
)  # as most have none
_SPELLINGS: Final = (
    (re.compile(r"\b(?:ground|frosted|ice|matte?)[ -]*glass(?:ed|y)?\b"), "ground-glass"),
    (re.compile(r"\bggos?\b"), "ground-glass opacity"),
    (re.compile(r"\bggns?\b"), "ground-glass nodule"),
    (re.compile(r"\b(can|could|do|does|did|is|are|was|were|has|have|had)n't\b"), r"\1 not"),
    (re.compile(r"\b(?:cannot|can't)\b"), "can not"),
    (re.compile(r"^query (?=[a-z])"), "possible "),
    (re.compile(r"\bw/o\b"), "without"),
    (re.compile(r"\bw/ ?(?=\w)"), "with "),
    (re.compile(r"(^|[ (,])\?+ ?(?=[a-z])"), r"\1possible "),
    (re.compile(r" (?:&|\+) "), " and "),
)


def split_lines(text: str) -> list[str]:
    """Split where a new line begins like one; a paragraph's end gives an empty line."""
    if text.isupper() or text.islower():  # then capitals do not say where a sentence begins
        text = _SHORT_LINE.sub(r"\1\n- ", text.lower())
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_CHARACTERS)
    return re.sub(_LINE, _keep_paragraph, text).split("\f")


def _keep_paragraph(match: re.Match[str]) -> str:
    return "\f\f" if match[0].count("\n") > 1 else "\f"


def split_line(line: str) -> Iterator[str]:
    """Yield the sentences of a line in lower case with single blanks."""
    if ") " in line:
        line = _MARK_IN_LINE.sub(";", line)
    if _LOWER_AFTER_STOP.search(line):
        line = _ABBREVIATED.sub(r"\1 ", line)
    for box, word in _BOXES:
        line = box.sub(word, line)
    for part in _BREAK.split(line.translate(_PLAIN)):
        sentence = " ".join(part.lower().split())
        if len(sentence) > _MAX_SENTENCE:
            yield from textwrap.wrap(sentence, _MAX_SENTENCE)
        elif sentence:
            yield sentence


def split_sentences(text: str) -> Iterator[str]:
    """Yield the sentences of all lines."""
    for line in split_lines(text):
        yield from split_line(line)


def unify_spelling(sentence: str, topic: str = "") -> str:
    """Rewrite a lower-case sentence with one spelling for each term that has several.

    LAD is a coronary artery where the sentence or its heading speaks of one, else lymphadenopathy.
    """
    if _HAS_SPELLINGS.search(sentence):
        for pattern, spelling in _SPELLINGS:
            sentence = pattern.sub(spelling, sentence)
    if "lad" in sentence:
        sentence = _NODAL_LAD.sub(lambda match: f"{match[1] or ''}lymphadenopathy", sentence)
        if not _CORONARY.search(f"{topic} {sentence}"):
            sentence = re.sub(r"\blad\b", "lymphadenopathy", sentence)
    return sentence
