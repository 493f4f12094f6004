"""Which words of a clause belong to which of its things.

    small left effusion                     before the thing, nothing between but adjectives
    a nodule is seen in the right lung      behind it: to the one before
    in both lungs nodules and emphysema     ahead of all: to each that has none of its own
    septal thickening and effusions on the left     to the whole list
    effusion with atelectasis               what is there with another is at its place

place_words.py finds both.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from uvlm.evaluation.labelling.place_words import PlaceWords, Thing, Word

_PLACE_NOUN: Final = (
    r"(?:lungs?|lobes?|lobar|zones?|side|sides|base|bases|apex|apices|hemithorax|segments?)"
)
_GOVERNED: Final = re.compile(
    r"(?:\b(?:in|at|on|within|throughout|along|involving|near|over|across|into|through)\b"
    r"|\bof (?:the|both|all)\b|\bto the\b)[^,;:|()]*$"
)
_OF: Final = re.compile(r"\bof $")
_JOINED_WORD: Final = re.compile(r"(?:, and|,|\band/or|\band|\bor|\bto|/|\+)\s*(?=@)")
_STOP: Final = re.compile(
    r"[,;:|()]|\b(?:and|or|with|without|is|are|was|were|be|been|being|has|have|had|there|seen"
    r"|observed|noted|detected|found|present|which|that|this|the|an?|in|at|on|within|throughout|along"
    r"|involving|near|to|by|from|for|as|than|also|now|measur\w+|reach\w+|extend\w+|shows?|showing"
    r"|accompan\w*|associated|adjacent|causing|its)\b"
)
_LIST_GAP: Final = re.compile(r"[,;:|()]|\b(?:and|or|plus|as well as|with|an?|the)\b|@")
_MODIFIES: Final = re.compile(r"^ (?:of|with|in)(?: an?| the)?(?: @+)* $")
_OF_A_LUNG: Final = re.compile(r"[@ ]*(?:lungs?|hemithora\w+)\b")
_CUT: Final = re.compile(r"[,;|]|\b(?:and|plus|but)\b")


@dataclass
class Said:
    """The words that belong to one thing."""

    thing: Thing
    before: list[Word] = field(default_factory=list)
    behind: list[Word] = field(default_factory=list)
    given: list[Word] = field(default_factory=list)  # from other things
    partly: list[Word] = field(default_factory=list)

    @property
    def own(self) -> list[Word]:
        return [*self.before, *self.behind]

    def has(self, kind: str) -> bool:
        """Whether its own words, or those it was given, say this much."""
        return any(word.kind == kind for word in [*self.own, *self.given])

    def all(self) -> list[Word]:
        return [*self.own, *self.given, *self.partly]


class Clause:
    """One clause, its words and things, and which belong together."""

    def __init__(self, place_words: PlaceWords, text: str, claimed: Collection[str]) -> None:
        self._place_words = place_words
        self._text = text
        self._all_words = place_words.words(text)
        masked = list(text)
        for word in self._all_words:
            masked[word.start : word.end] = "@" * (word.end - word.start)
        self._masked = "".join(masked)  # so that a gap shows its other words only
        things = place_words.things(text, claimed)
        self._said = [Said(thing) for thing in self._without_attached(things)]

    @property
    def has_things(self) -> bool:
        """Whether there is anything that its words may be said of."""
        return bool(self._said)

    def read(self) -> list[Said]:
        """Give every word to its thing."""
        ahead = [word for word in self._all_words if self._give(word)]
        self._share_in_phrases()
        for said in self._said:
            for kind in ("side", "lobe"):
                if not said.has(kind) and not self._is_elsewhere(said):
                    said.given += [word for word in ahead if word.kind == kind]
        if self._said:
            self._said[0].given += [word for word in ahead if word.kind == "size"]
        self._share_in_lists()
        self._share_with_neighbours()
        return self._said

    def _without_attached(self, things: Sequence[Thing]) -> list[Thing]:
        """Drop other things that are part of a name: the thickening of "septal thickening"."""
        kept: list[Thing] = []
        for number, thing in enumerate(things):
            if not thing.names:
                after = things[number + 1] if number + 1 < len(things) else None
                if after and after.names and self._is_one_phrase(thing.end, after.start):
                    continue
                if kept and kept[-1].names and self._is_one_phrase(kept[-1].end, thing.start):
                    continue
            kept.append(thing)
        return kept

    def _is_one_phrase(self, start: int, end: int) -> bool:
        """Whether nothing but adjectives and placing words, one of them or more, is between."""
        return _STOP.search(_JOINED_WORD.sub(" ", self._masked[start:end])) is None

    def _give(self, word: Word) -> bool:
        """Give a word to a thing; True if it stands ahead of all."""
        earlier = [said for said in self._said if said.thing.start <= word.start]
        later = [said for said in self._said if said.thing.start > word.start]
        stretch = self._text[earlier[-1].thing.end if earlier else 0 : word.start]
        if later and self._stands_before(word, later[0].thing, stretch):
            later[0].before.append(word)
            return False
        if not earlier:
            return True
        if later and self._begins_anew(word, stretch, later[0].thing):
            later[0].before.append(word)
            return False
        fitting = [said for said in reversed(earlier) if self._may_go(said, word)]
        if fitting:
            phrase = stretch.rpartition(",")[2]
            is_part = self._place_words.pattern["partly"].search(phrase) is not None
            (fitting[0].partly if is_part else fitting[0].behind).append(word)
        return False

    def _may_go(self, said: Said, word: Word) -> bool:
        names = said.thing.names
        return not names or any(self._place_words.may_have(name, word) for name in names)

    def _stands_before(self, word: Word, thing: Thing, stretch: str) -> bool:
        """Whether a word describes the next thing directly: "small left pleural" effusion."""
        if not self._is_one_phrase(word.end, thing.start):
            return False
        phrase = _CUT.split(stretch)[-1]
        if _GOVERNED.search(phrase) is None and not (
            word.kind != "size" and _OF.search(phrase) and self._names_a_place(word)
        ):
            return True
        # "in the right pleural effusion" has no noun of a place, "in the right lung a" has.
        return not self._names_a_place(word)

    def _names_a_place(self, word: Word) -> bool:
        rest = re.match(rf"[@ ]*(?:\w+ )?{_PLACE_NOUN}\b", self._masked[word.end :])
        return (
            rest is not None or re.search(rf"\b{_PLACE_NOUN}$", self._text[: word.end]) is not None
        )

    def _begins_anew(self, word: Word, stretch: str, thing: Thing) -> bool:
        """Whether ", and in the left lung a nodule" is about what follows."""
        cuts = list(_CUT.finditer(stretch))
        if not cuts or _GOVERNED.match(stretch[cuts[-1].end() :].lstrip()) is None:
            return False
        return _CUT.search(self._masked, word.end, thing.start) is None

    def _is_elsewhere(self, said: Said) -> bool:
        """Whether a thing is said to be in a lung, so that what stands ahead is another place."""
        sides = (word for word in said.own if word.kind == "side")
        return any(_OF_A_LUNG.match(self._masked, word.end) for word in sides)

    def _share_in_phrases(self) -> None:
        """Let "sequela nodules" and "a nodule of ground-glass density" share their words."""
        for said, after in zip(self._said, self._said[1:], strict=False):
            gap = self._masked[said.thing.end : after.thing.start]
            if not gap.strip(" -"):
                after.given += said.before
                said.given += after.behind
            elif _MODIFIES.match(gap):
                said.given += after.behind

    def _share_in_lists(self) -> None:
        """Give "A and B on the left" to both, from the last thing of a list to the first."""
        for said, after in zip(self._said[-2::-1], self._said[:0:-1], strict=True):
            has_place = said.has("side") or said.has("lobe")
            gap = self._masked[said.thing.end : after.thing.start]
            if not has_place and not _STOP.search(_LIST_GAP.sub(" ", gap)):
                placed = [*after.behind, *after.given, *after.partly]
                said.given += [word for word in placed if word.kind != "size"]

    def _share_with_neighbours(self) -> None:
        """Give the place of a thing to what is there with it, and the other way round."""
        patterns = self._place_words.pattern
        for number in range(1, len(self._said)):
            said, after = self._said[number - 1 : number + 1]
            following = self._said[number + 1 :]
            end = following[0].thing.start if following else len(self._text)
            gap, rest = (
                self._text[said.thing.end : after.thing.start],
                self._text[after.thing.end : end],
            )
            is_together = patterns["together"].search(gap) is not None
            if is_together or patterns["with"].search(gap):
                self._copy_place(said, after)
            if patterns["same_side"].search(f"{gap}|{rest}"):
                for giver in self._said[number - 1 :: -1]:
                    self._copy_place(giver, after)
            if is_together:
                self._copy_place(after, said)

    @staticmethod
    def _copy_place(giver: Said, taker: Said) -> None:
        if taker.has("side"):
            return
        kinds = ("side",) if taker.has("lobe") else ("side", "lobe")
        taker.given += [word for word in giver.all() if word.kind in kinds]
