"""What a report asserts: its clauses, without what they deny.

    "No pleural effusion was observed, but there are nodules in both lungs."
      clauses   no pleural effusion was observed, | there are nodules in both lungs
      asserted  was observed,                     | there are nodules in both lungs

Denials follow the verbs. "no X was observed" denies up to the verb, "X was not observed" denies
back to the verb before, and neither crosses words like "but". Questions and guesses ("nodule?",
"may be compatible with emphysema") count as asserted, as CT-RATE's annotators count them. The words
themselves are in patterns/negation.yaml.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

from uvlm.evaluation.labelling.notation import any_of

_CHARACTERS: Final = str.maketrans(
    dict.fromkeys("\u2018\u2019\u02bc`\u00b4", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb\u2022\u25aa\u25cf\u00b7", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
)
_SPELLINGS: Final = (
    (re.compile(r"\b(?:ground|frosted|ice|matte?)[ -]*glass(?:ed|y)?\b"), "ground-glass"),
    (re.compile(r"\b(can|could|do|does|did|is|are|was|were|has|have|had)n't\b"), r"\1 not"),
    (re.compile(r"\bcannot\b"), "can not"),
)
# A full stop inside a number or a date ends no sentence, nor does a question mark in parentheses.
_BREAK: Final = re.compile(
    r"\.+(?!\d)|(?<!\d)\.(?=\d)"
    r"|[;!\"]+|'{2,}"
    r"|\?(?!\s*[),?])"
    r"|\n\s*\n|\n(?=\s*(?:[-*>A-Z]|\d+[.)]\s))"
)
_MAX_SENTENCE: Final = 2000  # characters; a model may write on without a full stop
_JOINT: Final = re.compile(r",| and (?!the same)")
_RELATIVE: Final = re.compile(r"\b(?:which|that|who|whose)(?: \w+){0,2} ?$")
_VERB_AT_END: Final = re.compile(
    r"\b(?:is|are|was|were|has|have|had|shows?|with) ?(?:also |currently )*$"
)


def split_sentences(text: str) -> Iterator[str]:
    """Yield sentences in lower case with single blanks.

    A line break ends a sentence if the next line begins like one; otherwise it is a blank.
    """
    if text.isupper():  # a capital at the start of a line would end a sentence
        text = text.lower()
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_CHARACTERS)
    for part in _BREAK.split(text):
        sentence = " ".join(part.lower().split())
        if len(sentence) > _MAX_SENTENCE:
            yield from textwrap.wrap(sentence, _MAX_SENTENCE)
        elif sentence:
            yield sentence


def unify_spelling(sentence: str) -> str:
    """Rewrite a lower-case sentence with one spelling for each term that has several."""
    for pattern, spelling in _SPELLINGS:
        sentence = pattern.sub(spelling, sentence)
    return sentence


class Denials:
    """Cuts what is denied out of a sentence.

    Args:
        patterns: the lists of patterns/negation.yaml by name.
    """

    def __init__(self, patterns: Mapping[str, Any]) -> None:
        terms: Mapping[str, str] = patterns["terms"]
        lists = {name: lines for name, lines in patterns.items() if name != "terms"}
        self._pattern = {name: any_of(lines, terms) for name, lines in lists.items()}

    def asserted(self, sentence: str) -> list[str]:
        """Return the clauses of a sentence without what they deny."""
        clauses = self._pattern["splits_clauses"].split(
            self._pattern["harmless"].sub(" ", sentence)
        )
        asserted = map(self._without_denials, map(self._without_normal, clauses))
        return [clause for clause in asserted if clause.strip(" ,.-")]

    def _without_normal(self, clause: str) -> str:
        """Cut what is called normal, back to the comma before; the next word may be a verb."""
        while normal := self._pattern["calls_normal"].search(clause):
            subject = clause.rfind(",", 0, normal.start()) + 1
            joint = clause.rfind(" and ", subject, normal.start())
            clause = clause[: max(subject, joint)] + clause[normal.end() :]
        return clause

    def _without_denials(self, clause: str) -> str:
        """Go from denial to denial; the parts of a clause that are kept are joined by bars."""
        if self._pattern["gone"].search(clause):
            return ""
        kept: list[str] = []
        start = 0  # of the rest that is not judged yet
        while start < len(clause):
            before = self._pattern["denies_before"].search(clause, start)
            after = self._pattern["denies_after"].search(clause, start)
            if before and (after is None or before.start() <= after.start()):
                ahead = self._ahead_of_subject(clause[start : before.start()])
                # Without a subject of its own, the verb denies what was said of the earlier one.
                kept = [] if ahead is None else [*kept, ahead]
                start = before.end()
            elif after:
                kept.append(clause[start : after.start()])
                start = self._end_of_denial(clause, after.end(), kept[-1])
            else:
                kept.append(clause[start:])
                break
        return " | ".join(part for part in kept if part.strip(" ,"))

    def _ahead_of_subject(self, text: str) -> str | None:
        """Keep what stands before the subject of "... was not observed".

        None if its subject is that of an earlier verb ("X was seen before and was not observed").
        """
        verbs = [
            v
            for v in self._pattern["asserts"].finditer(text)
            if not _RELATIVE.search(text[: v.start()])
        ]
        if not verbs:
            return ""
        rest = text[verbs[-1].end() :]
        joint = _JOINT.search(rest)
        if joint is None or not rest[joint.end() :].strip(" ,"):
            return None
        return text[: verbs[-1].end() + joint.start()]

    def _end_of_denial(self, clause: str, start: int, ahead: str) -> int:
        """Find where "no ..." stops denying."""
        verb = self._pattern["asserts"].search(clause, start)
        denial = self._pattern["denies_before"].search(clause, start)
        if denial and (verb is None or denial.start() < verb.start()):
            return denial.end()
        if verb is None:
            return len(clause)
        if _VERB_AT_END.search(ahead):  # "there is no X, Y are seen": the verb belongs to Y
            joints = list(_JOINT.finditer(clause, start, verb.start()))
            return joints[-1].start() if joints else verb.start()
        return verb.end()
