"""Leaks: the same patient, scan, reconstruction or image on two sides of a split.

Every objective names what it uses: the trainings, the masks of the lesion set, the tokenizer, the
thresholds, the scores. A use is one case on one side for one objective; two uses that share an
identity or show the same image must be on the same side. Equal report texts are not a leak: normal
anatomy is dictated in the same words for different people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from uvlm.data.cases import SPLITS, Case, Split
from uvlm.data.leaks.likeness import decode, nearest
from uvlm.errors import DataError

_MOST_LISTED: Final = 5


@dataclass(frozen=True)
class Use:
    """One case that an objective learns from, tunes on or is scored on."""

    objective: str
    split: Split
    case: Case
    image: str = ""  # digest of the preprocessed voxels
    likeness: str = ""

    def __str__(self) -> str:
        return f"{self.case.case_id} ({self.split}, {self.objective})"


@dataclass(frozen=True)
class Leak:
    """Two uses on different sides that share `what`."""

    what: str
    one: Use
    other: Use

    def __str__(self) -> str:
        return f"{self.what} of {self.one} and {self.other}"


@dataclass(frozen=True)
class Leaks:
    """What the search found; `margins` has the smallest distance of images on two sides."""

    leaks: list[Leak]
    margins: dict[str, float] = field(default_factory=dict)

    def check(self, subject: str) -> None:
        """Refuse the data if there is a leak."""
        if self.leaks:
            listed = "; ".join(map(str, self.leaks[:_MOST_LISTED]))
            noun = "leak" if len(self.leaks) == 1 else "leaks"
            fact = f"{len(self.leaks)} {noun} between splits: {listed}"
            remedy = "leave one of each pair out, or make again what was fitted on it"
            raise DataError(subject, fact, remedy)


_SHARED: Final[Mapping[str, Callable[[Use], str]]] = {  # most specific first: a pair is named once
    "the same reconstruction": lambda use: use.case.case_id,
    "the same scan": lambda use: use.case.scan_id,
    "the same patient": lambda use: use.case.patient_id,
    "the same stored voxels": lambda use: use.case.sha256,
    "the same voxels on the grid": lambda use: use.image,
}


def find_leaks(uses: Iterable[Use], near_duplicate: float = 0.0) -> Leaks:
    """Search all pairs of uses on different sides; name each pair of cases once.

    Args:
        uses: of all objectives together.
        near_duplicate: images whose likenesses are closer than this are the same.
    """
    uses = list(uses)
    found: dict[frozenset[str], Leak] = {}
    for what, shared in _SHARED.items():
        first: dict[str, dict[Split, Use]] = {}
        for use in uses:
            if key := shared(use):
                first.setdefault(key, {}).setdefault(use.split, use)
        for sides in first.values():
            _add(found, what, [sides[split] for split in SPLITS if split in sides])
    margins = {}
    for split, earlier in (("val", SPLITS[:1]), ("test", SPLITS[:2])):
        ones = _images(use for use in uses if use.split == split)
        others = _images(use for use in uses if use.split in earlier)
        if not ones or not others:
            continue
        distances, index = nearest(*(decode([u.likeness for u in s]) for s in (ones, others)))
        margins[split] = round(float(distances.min()), 3)
        for one, distance, place in zip(ones, distances, index, strict=True):
            if distance < near_duplicate:
                _add(found, f"nearly the same image ({distance:.3f} apart)", [others[place], one])
    return Leaks(list(found.values()), margins)


def _add(found: dict[frozenset[str], Leak], what: str, sides: Sequence[Use]) -> None:
    """Note the first use of each side with that of the next side."""
    for one, other in pairwise(sides):
        found.setdefault(frozenset((one.case.case_id, other.case.case_id)), Leak(what, one, other))


def _images(uses: Iterable[Use]) -> list[Use]:
    """Keep one use per case, of those whose voxels have been seen."""
    return list({use.case.case_id: use for use in uses if use.likeness}.values())
