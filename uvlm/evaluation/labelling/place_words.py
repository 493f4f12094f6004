"""The words of a clause that say where and how large, and the things they may be said of.

    in the right upper lobe a nodule of 12 mm
           ----- -----        ~~~~~~    -----
    words  right upper                  12 mm: moderate or small, as the limits of the thing say
    thing  nodule

The words themselves are in attributes.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

from uvlm.evaluation.labelling.notation import any_of
from uvlm.text.attributes import VALUES

_MM_PER_UNIT: Final = {"m": 1.0, "c": 10.0}
_NUMBER: Final = r"\d+(?:[.,]\d+)?"
_MEASURE: Final = re.compile(
    rf"(?P<under>(?:under|below|less than|smaller than|shorter than|<) ?)?"
    rf"(?P<numbers>{_NUMBER}(?: ?(?:x|\u00d7|-|to|and|/|by|,) ?{_NUMBER})*)"
    r"[ -]?(?P<unit>[mc])(?:m|illimet\w+|entimet\w+)s?(?!\w)"
)
_NOT_ABOVE: Final = re.compile(
    r"\b(?:(?:that |which )?(?:do |does |are |is )?not (?:exceed(?:ing)?|larger than|more than)"
    r"|none(?: of (?:which|them))?(?: is)? (?:more|larger|greater|bigger) than"
    r"|no (?:more|larger|greater) than)\b"
)
_PHRASE_END: Final = re.compile(r"[,;|]|\band\b")
_JUST_UNDER: Final = 1e-6
BOTH: Final = VALUES["side"]


class Word(NamedTuple):
    """A word that places or measures; `limits` of what it is said of turn `mm` into a size."""

    start: int
    end: int
    kind: str  # side | lobe | size
    values: tuple[str, ...] = ()
    mm: float | None = None
    is_amount: bool = False  # counts only for what is measured in amounts
    is_weak: bool = False  # a plural: both sides, unless one is named


class Thing(NamedTuple):
    """What words are said of: abnormalities, or something else if there are none."""

    start: int
    end: int
    names: tuple[str, ...]


class PlaceWords:
    """Finds words and things in a clause.

    Args:
        document: attributes.yaml.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        terms = document["terms"]
        lists = {name: words for name, words in document.items() if isinstance(words, list)}
        self.pattern = {name: any_of(words, terms) for name, words in lists.items()}
        self._names = {name: any_of(words, terms) for name, words in document["names"].items()}
        self._beside = {name: any_of(words, terms) for name, words in document["beside"].items()}
        elsewhere = document["elsewhere"].items()
        self._elsewhere = {name: any_of(words, terms) for name, words in elsewhere}
        self._has = {kind: frozenset(document[f"{kind}s"]) for kind in VALUES}
        self._has_amount = frozenset(document["amounts"])
        self._limits: Mapping[str, Sequence[float]] = document["limits_mm"]

    def prepared(self, sentence: str) -> str:
        """Write limits in one way: "not exceeding 5 mm" denies nothing."""
        return _NOT_ABOVE.sub("under", sentence)

    def without_others(self, clause: str) -> str:
        """Erase words that place or measure something else."""
        return self.pattern["erased"].sub(" ", clause)

    def may_have(self, name: str, word: Word) -> bool:
        """Whether an abnormality has what a word says."""
        is_of_it = name in self._has[word.kind]
        return is_of_it and (not word.is_amount or name in self._has_amount)

    def values_of(self, word: Word, name: str) -> tuple[str, ...]:
        """Turn a word into what it says of an abnormality."""
        if word.mm is None:
            return word.values
        moderate, large = self._limits.get(name, self._limits["other"])
        size = VALUES["size"]
        return (size[0] if word.mm < moderate else size[1] if word.mm <= large else size[2],)

    def words(self, clause: str) -> list[Word]:
        """Find all words, in order; two may be the same place ("bibasal")."""
        return sorted({*self._sides(clause), *self._lobes(clause), *self._sizes(clause)})

    def _find(self, name: str, clause: str) -> Iterator[tuple[int, int]]:
        return (match.span() for match in self.pattern[name].finditer(clause))

    def _sides(self, clause: str) -> Iterator[Word]:
        both = [*self._find("more_on", clause)]
        yield from (Word(*span, "side", BOTH) for span in both)
        for side in VALUES["side"]:
            for start, end in self._find(side, clause):
                if not any(first <= start < last for first, last in both):
                    yield Word(start, end, "side", (side,))
        yield from (Word(*span, "side", BOTH) for span in self._find("both", clause))
        weak = self._find("both_by_number", clause)
        yield from (Word(*span, "side", BOTH, is_weak=True) for span in weak)

    def _lobes(self, clause: str) -> Iterator[Word]:
        for lobe in VALUES["lobe"]:
            yield from (Word(*span, "lobe", (lobe,)) for span in self._find(lobe, clause))
        for region, lobe in (("upper_region", "upper"), ("lower_region", "lower")):
            yield from (Word(*span, "lobe", (lobe,)) for span in self._find(region, clause))
        every = self._find("all_lobes", clause)
        yield from (Word(*span, "lobe", VALUES["lobe"]) for span in every)

    def _sizes(self, clause: str) -> Iterator[Word]:
        for size in VALUES["size"]:
            yield from (Word(*span, "size", (size,)) for span in self._find(size, clause))
            amounts = self._find(f"{size}_amount", clause)
            yield from (Word(*span, "size", (size,), is_amount=True) for span in amounts)
        for match in _MEASURE.finditer(clause):
            numbers = re.findall(_NUMBER, match["numbers"])
            largest = max(float(number.replace(",", ".")) for number in numbers)
            under = _JUST_UNDER if match["under"] else 0.0
            mm = largest * _MM_PER_UNIT[match["unit"]] - under
            yield Word(match.start(), match.end(), "size", mm=mm)

    def things(self, clause: str, claimed: Collection[str]) -> list[Thing]:
        """Find what the words of a clause may be said of, in order.

        Args:
            clause: its text.
            claimed: the abnormalities that the sentence says are there.
        """
        found: dict[tuple[int, int], list[str]] = {}
        for name in self._names.keys() & {*claimed}:
            for match in self._names[name].finditer(clause):
                found.setdefault(match.span(), []).append(name)
        for match in self.pattern["others"].finditer(clause):
            found.setdefault(match.span(), [])
        things: list[Thing] = []
        # Of two that overlap the one that begins first counts, and of those the longest.
        for (start, end), names in sorted(
            found.items(), key=lambda item: (item[0][0], -item[0][1])
        ):
            if not things or start >= things[-1].end:
                things.append(Thing(start, end, tuple(names)))
        return [self._of_one_organ(clause, things, number) for number in range(len(things))]

    def _of_one_organ(self, clause: str, things: Sequence[Thing], number: int) -> Thing:
        """Let the words beside "effusion" or "lesion" tell of which organ it is."""
        thing = things[number]
        before = clause[things[number - 1].end if number else 0 : thing.start]
        after = clause[thing.end : things[number + 1].start if number + 1 < len(things) else None]
        parts = (_PHRASE_END.split(before)[-1], _PHRASE_END.split(after)[0])
        for part in parts:
            told = [n for n in thing.names if n in self._beside and self._beside[n].search(part)]
            if told:
                return thing._replace(names=tuple(told))
            names = [n for n in thing.names if not self._is_elsewhere(n, part)]
            thing = thing._replace(names=tuple(names))
        return thing

    def _is_elsewhere(self, name: str, part: str) -> bool:
        return name in self._elsewhere and self._elsewhere[name].search(part) is not None


@cache
def read_place_words() -> PlaceWords:
    """Read attributes.yaml."""
    from ruamel.yaml import YAML

    text = files(__package__).joinpath("attributes.yaml").read_text(encoding="utf-8")
    return PlaceWords(YAML(typ="safe").load(text))
