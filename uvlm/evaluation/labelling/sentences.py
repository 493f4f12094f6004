"""What a report asserts: sentences, clauses, and the denied part of each left out.

    "No pleural effusion was observed, but there are nodules in both lungs."
      clauses   no pleural effusion was observed, | there are nodules in both lungs
      asserted  was observed,                     | there are nodules in both lungs

Denials follow the verbs. "no X was observed" denies up to the verb, "X was not observed" denies
back to the verb before, and neither crosses words like "but". Questions and guesses ("nodule?",
"may be compatible with emphysema") count as asserted, as the annotators of CT-RATE count them. The
words themselves are in patterns/negation.yaml.
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
# A full stop inside a number or a date ends nothing, nor does a question mark inside brackets.
_BREAK: Final = re.compile(
    r"\.+(?!\d)|(?<!\d)\.(?=\d)"
    r"|[;!\"]+|'{2,}"
    r"|\?(?!\s*[),?])"
    r"|\n\s*\n|\n(?=\s*(?:[-*>A-Z]|\d+[.)]\s))"
)
_MAX_SENTENCE: Final = 2000  # characters; what a model writes without full stops is cut
_JOINT: Final = re.compile(r",| and (?!the same)")
_RELATIVE: Final = re.compile(r"\b(?:which|that|who|whose)(?: \w+){0,2} ?$")
_VERB_AT_END: Final = re.compile(
    r"\b(?:is|are|was|were|has|have|had|shows?|with) ?(?:also |currently )*$"
)


def split_sentences(text: str) -> Iterator[str]:
    """Give sentences in lower case with single blanks.

    A line break ends a sentence where the next line begins like one; elsewhere it is a blank.
    """
    if text.isupper():
        text = text.lower()
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_CHARACTERS)
    for part in _BREAK.split(text):
        sentence = " ".join(part.lower().split())
        if len(sentence) > _MAX_SENTENCE:
            yield from textwrap.wrap(sentence, _MAX_SENTENCE)
        elif sentence:
            yield sentence


def unify_spelling(sentence: str) -> str:
    """Write a lower-case sentence with one spelling for each term that has several."""
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
        self._harmless = any_of(patterns["harmless"], terms)
        self._gone = any_of(patterns["gone"], terms)
        self._denies_after = any_of(patterns["denies_after"], terms)
        self._denies_before = any_of(patterns["denies_before"], terms)
        self._calls_normal = any_of(patterns["calls_normal"], terms)
        self._asserts = any_of(patterns["asserts"], terms)
        self._splits_clauses = any_of(patterns["splits_clauses"], terms)

    def asserted(self, sentence: str) -> list[str]:
        """Give the clauses of a sentence without what they deny."""
        clauses = self._splits_clauses.split(self._harmless.sub(" ", sentence))
        asserted = map(self._without_denials, map(self._without_normal, clauses))
        return [clause for clause in asserted if clause.strip(" ,.-")]

    def _without_normal(self, clause: str) -> str:
        """Cut what is called normal, back to the comma before; the next word may be a verb."""
        while normal := self._calls_normal.search(clause):
            subject = clause.rfind(",", 0, normal.start()) + 1
            joint = clause.rfind(" and ", subject, normal.start())
            clause = clause[: max(subject, joint)] + clause[normal.end() :]
        return clause

    def _without_denials(self, clause: str) -> str:
        """Go from denial to denial; what is kept of a clause is joined by bars."""
        if self._gone.search(clause):
            return ""
        kept: list[str] = []
        start = 0  # of what is not yet judged
        while start < len(clause):
            before = self._denies_before.search(clause, start)
            after = self._denies_after.search(clause, start)
            if before and (after is None or before.start() <= after.start()):
                ahead = self._ahead_of_subject(clause[start : before.start()])
                if ahead is None:
                    kept.clear()
                else:
                    kept.append(ahead)
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

        None when its subject is that of an earlier verb ("X was seen before and was not observed").
        """
        verbs = [v for v in self._asserts.finditer(text) if not _RELATIVE.search(text[: v.start()])]
        if not verbs:
            return ""
        rest = text[verbs[-1].end() :]
        joint = _JOINT.search(rest)
        if joint is None or not rest[joint.end() :].strip(" ,"):
            return None
        return text[: verbs[-1].end() + joint.start()]

    def _end_of_denial(self, clause: str, start: int, ahead: str) -> int:
        """Find where "no ..." stops denying."""
        verb = self._asserts.search(clause, start)
        denial = self._denies_before.search(clause, start)
        if denial and (verb is None or denial.start() < verb.start()):
            return denial.end()
        if verb is None:
            return len(clause)
        if _VERB_AT_END.search(ahead):  # "there is no X, Y are seen": the verb belongs to Y
            joints = list(_JOINT.finditer(clause, start, verb.start()))
            return joints[-1].start() if joints else verb.start()
        return verb.end()
