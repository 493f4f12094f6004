"""What a sentence asserts: its clauses, without what they deny.

    "No pleural effusion was observed, but there are nodules in both lungs."
      clauses   no pleural effusion was observed, | there are nodules in both lungs
      asserted  was observed,                     | there are nodules in both lungs

Denials follow the verbs. "no X was observed" denies up to the verb, "X was not observed" denies
back to the verb before, and neither crosses words like "but". Without a verb, and before words that
only fit what is there ("small", "residual"), commas count:

    "no A, B or C"      a list: all three are denied
    "no A, small B"     B is there
    "A, B not enlarged" A is there

Questions and guesses ("nodule?", "cannot exclude a nodule") count as asserted, as CT-RATE's
annotators count them. The words themselves are in patterns/negation.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, Final

from uvlm.evaluation.labelling.notation import any_of

_BRACKET: Final = re.compile(r"\(([^()]*)\)")
_JOINT: Final = re.compile(r",| and (?!the same)")
_PART: Final = re.compile(r",(?: and| with| plus)? | and | with | plus ")
_OR: Final = re.compile(r"\b(?:or|nor|and/or)\b")
_NEXT_DENIAL: Final = re.compile(r", (?:no|not|without|negative|free|clear)\b")
_AUXILIARY: Final = re.compile(r"(?:is|are|was|were|has|have|had|can|could|do|does|did)\b")
_RELATIVE: Final = re.compile(r"\b(?:which|that|who|whose)(?: \w+){0,2} ?$")
_VERB_AT_END: Final = re.compile(
    r"\b(?:is|are|was|were|has|have|had|shows?|with) ?(?:also |currently )*$"
)
_END: Final = "\n"  # of a statement
_KEPT: Final = {  # what denies nothing, and what is left of it
    "doubts": " possible ",
    "unchanged": " unchanged ",
    "partly_gone": " residual ",
    "harmless": " ",
}
_NUM_WORDS_BARE: Final = 3  # of an item of a list that says neither where nor how much


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
        may_deny = self._pattern["may_deny"].search(sentence) is not None
        if may_deny:
            for name, word in _KEPT.items():
                sentence = self._pattern[name].sub(word, sentence)
        clauses = [
            clause
            for part in self._brackets_apart(sentence)
            for clause in self._pattern["splits_clauses"].split(part)
        ]
        clauses = [self._without_normal(clause) for clause in clauses]
        asserted = map(self._without_denials, clauses) if may_deny else [clauses]
        return [clause for clause in chain.from_iterable(asserted) if clause.strip(" ,.-|()")]

    def tells(self, clause: str, is_first: bool) -> bool:
        """Whether a clause says of its heading what, how much, how many, where or that it is so.

        A later sentence says it with a size or a lobe: "mild scoliosis" is about something else.
        """
        if not is_first:
            return self._pattern["later"].search(clause) is not None
        return self._describes(clause) or self._pattern["findings"].search(clause) is not None

    def _describes(self, part: str) -> bool:
        return self._pattern["describes"].search(part) is not None

    def _brackets_apart(self, sentence: str) -> list[str]:
        """Take brackets that deny or assert for themselves out of a sentence."""
        if "(" not in sentence:
            return [sentence]
        sentence = self._without_denied_brackets(sentence)
        apart: list[str] = []

        def take(match: re.Match[str]) -> str:
            if "?" in match[1] or not self._pattern["own_bracket"].search(match[1]):
                return match[0]
            if not self._pattern["earlier_bracket"].match(match[1]):
                apart.append(match[1])
            return ""

        return [_BRACKET.sub(take, sentence), *apart]

    def _without_denied_brackets(self, sentence: str) -> str:
        """Cut "B (none)" out of "A, B (none), C"; "(-) A" is no A."""
        for match in reversed(list(_BRACKET.finditer(sentence))):
            if self._pattern["denied_bracket"].fullmatch(match[1].strip()) is None:
                continue
            ahead, rest = sentence[: match.start()], sentence[match.end() :]
            part = max(ahead.rfind(","), ahead.rfind(" and "), 0)
            sentence = ahead[:part] + rest if ahead.strip() else f"no{rest}"
        return sentence

    def _without_normal(self, clause: str) -> str:
        """Cut what is called normal, back to the comma before; the next word may be a verb."""
        while normal := self._pattern["calls_normal"].search(clause):
            subject = clause.rfind(",", 0, normal.start()) + 1
            joint = clause.rfind(" and ", subject, normal.start())
            clause = clause[: max(subject, joint)] + clause[normal.end() :]
        return clause

    def _without_denials(self, clause: str) -> list[str]:
        """Go from denial to denial; the parts of a statement that are kept are joined by bars."""
        if self._pattern["earlier"].search(clause):
            return []
        kept: list[str] = []
        start = 0  # of the rest that is not judged yet
        next_before, next_after = map(
            self._searcher, ("denies_before", "denies_after"), 2 * [clause]
        )
        while start < len(clause):
            before, after = next_before(start), next_after(start)
            suit = self._suit(clause, start) if start else None
            if suit:
                start = self._end_of_denial(clause, suit.end(), "")
            elif before and (after is None or _is_first(before, after)):
                ahead = self._ahead_of_subject(
                    clause[start : before.start()], has_verb=_AUXILIARY.match(before[0]) is not None
                )
                # Without a subject of its own, the verb denies what was said of the earlier one.
                kept = [] if ahead is None else [*kept, ahead]
                start = before.end()
            elif after:
                kept.append(clause[start : after.start()])
                start = self._end_of_denial(clause, after.end(), kept[-1])
                kept += [_END] if clause.startswith(",", start) else []
            else:
                kept.append(clause[start:])
                break
        return " | ".join(part for part in kept if part.strip(" ,")).split(_END)

    def _searcher(self, name: str, clause: str) -> Callable[[int], re.Match[str] | None]:
        """Make a search from places further and further on, which looks at no text twice."""
        found = self._pattern[name].search(clause)

        def search(start: int) -> re.Match[str] | None:
            nonlocal found
            if found is not None and found.start() < start:
                found = self._pattern[name].search(clause, start)
            return found

        return search

    def _suit(self, clause: str, start: int) -> re.Match[str] | None:
        """Find ", as has X" or "and so is X" right behind a denial."""
        while start < len(clause) and clause[start] in " ,":
            start += 1
        return self._pattern["follows_suit"].match(clause, start)

    def _ahead_of_subject(self, text: str, *, has_verb: bool) -> str | None:
        """Keep what stands before the subject of "... was not observed".

        None if its subject is that of an earlier verb ("X was seen before and was not observed").
        """
        if self._pattern["part_of"].search(text):
            return text
        verbs = [
            v
            for v in self._pattern["asserts"].finditer(text)
            if not _RELATIVE.search(text[: v.start()])
        ]
        start = verbs[-1].end() if verbs else 0
        if own := self._own_statements(text, start, has_verb=has_verb):
            return text[:own]
        if not verbs:
            return ""
        rest = text[start:]
        joint = _JOINT.search(rest)
        if joint is None or not rest[joint.end() :].strip(" ,"):
            return None
        return text[: start + joint.start()]

    def _own_statements(self, text: str, start: int, *, has_verb: bool) -> int:
        """Find where "small A, B" (not seen) stops asserting; 0 if all may be one list."""
        subject = text.rstrip(" ,")
        comma = subject.rfind(", ", start)
        while comma > 0:
            first = max(subject.rfind(", ", start, comma) + 1, start)
            part, rest = subject[first:comma].strip(" ,"), subject[comma + 2 :]
            if self._is_there(part) and not _OR.match(rest):
                return comma
            if not (has_verb or _OR.search(rest)) and self._pattern["describes"].match(part):
                return comma
            comma = subject.rfind(", ", start, comma)
        return 0

    def _is_there(self, part: str) -> bool:
        """Whether a part between commas asserts without a verb: "small A", "A noted"."""
        strong, said = self._pattern["strong"], self._pattern["said"]
        return strong.match(part) is not None or said.search(part) is not None

    def _end_of_denial(self, clause: str, start: int, ahead: str) -> int:
        """Find where "no ..." stops denying."""
        end, has_verb = self._verb_of_denial(clause, start, ahead)
        listed = clause[start:end]
        for joint in _PART.finditer(listed):
            if self._pattern["adjectives"].fullmatch(listed[: joint.start()].strip(" ,")):
                continue
            rest = listed[joint.end() :]
            if self._pattern["strong"].match(rest):
                return start + joint.start()
            if joint[0].startswith(",") and self._begins_statement(
                listed[: joint.start()], rest, has_verb=has_verb
            ):
                return start + joint.start()
        return end

    def _begins_statement(self, before: str, rest: str, *, has_verb: bool) -> bool:
        """Whether what follows a comma is no item of a list that is denied."""
        if has_verb:
            return self._pattern["subject"].match(rest) is not None and not _OR.search(rest)
        items = _OR.split(before)
        is_closed = len(items) > 1 and not self._pattern["adjectives"].fullmatch(items[0].strip())
        return not self._is_list(rest) or (is_closed and not _OR.search(rest))

    def _is_list(self, rest: str) -> bool:
        """Whether what follows "no A," goes on with the list: "B or C", "B, C"."""
        rest = _NEXT_DENIAL.split(rest)[0]
        if _OR.search(rest):
            return True
        part = rest.split(",")[0].strip()
        if self._pattern["denied_item"].search(part):
            return True
        is_bare = part.count(" ") < _NUM_WORDS_BARE and not self._is_there(part)
        return is_bare and not self._describes(part)

    def _verb_of_denial(self, clause: str, start: int, ahead: str) -> tuple[int, bool]:
        """Find the verb up to which "no ..." denies, or the end, and whether there is one."""
        verb = self._pattern["asserts"].search(clause, start)
        denial = self._pattern["denies_before"].search(clause, start)
        if denial and (verb is None or denial.start() < verb.start()):
            return denial.end(), True
        if verb is None:
            return len(clause), False
        if _VERB_AT_END.search(ahead):  # "there is no X, Y are seen": the verb belongs to Y
            joints = list(_JOINT.finditer(clause, start, verb.start()))
            return (joints[-1].start() if joints else verb.start()), True
        return verb.end(), True


def _is_first(match: re.Match[str], other: re.Match[str]) -> bool:
    """Whether a match begins before another, or at the same place and is no shorter."""
    return (match.start(), -match.end()) <= (other.start(), -other.end())
