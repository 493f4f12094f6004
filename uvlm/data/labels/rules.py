"""What is plausible in a label map and what is not: rules as data, one flag for each breach.

    volume      more or less of a structure than a body holds
    flat        an organ ends in a plane, as if cut off
    side        left and right, above and below, or front and back are swapped
    density     the Hounsfield units under a structure are not its own
    leak        too little of the airway is air
    fragments   a structure that is one piece is in pieces
    overlap     two kinds of labels claim the same voxels

The tables are in plausible/*.json. A flag is a reason to look at a case, never to leave it out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal, Self

import numpy as np

from uvlm.data.label_scheme import FineClasses
from uvlm.data.labels.measure import LabelFacts, StructureFacts

Bodies = Literal["adult", "phantom"]
Found = Mapping[str, StructureFacts]
RULES: Final = ("volume", "flat", "side", "density", "leak", "fragments", "overlap")
_RELATIONS: Final = {"left_of": (2, "left of"), "above": (0, "above"), "behind": (1, "behind")}


@dataclass(frozen=True)
class Flag:
    """One breach of a rule: by which structure, in words and numbers, with its fine ids."""

    rule: str
    structure: str
    fact: str
    class_ids: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what the report says about it."""
        return {"rule": self.rule, "structure": self.structure, "fact": self.fact}


@dataclass(frozen=True, eq=False)
class Plausible:
    """The rules for some bodies and the classes of a data set; `ids` are fine ids by structure."""

    bodies: Bodies
    document: Mapping[str, Any]
    ids: Mapping[str, tuple[int, ...]]
    names: tuple[str, ...]

    @classmethod
    def of(cls, bodies: Bodies, fine: FineClasses) -> Self:
        """Read the rules and find their structures among the classes of a data set."""
        document = _document(bodies)
        ids = {
            name: tuple(fine.names.index(member) for member in entry["of"] if member in fine.names)
            for name, entry in document["structures"].items()
        }
        known = {name: found for name, found in ids.items() if found}
        return cls(bodies, document, known, fine.names)

    def find(self, facts: LabelFacts) -> dict[str, StructureFacts]:
        """Join the classes of every structure that is present."""
        members = {
            name: [facts.structures[number] for number in ids if number in facts.structures]
            for name, ids in self.ids.items()
        }
        return {name: _joined(known) for name, known in members.items() if known}

    def volume(self, found: StructureFacts, facts: LabelFacts) -> float:
        """Return the volume of a structure in the unit of the rules."""
        return found.ml if self.document["volume_in"] == "ml" else found.ml / facts.ct_ml

    def judge(self, facts: LabelFacts) -> list[Flag]:
        """List every breach, in the order of RULES."""
        found = self.find(facts)
        return [
            *self._volumes(facts, found),
            *self._flat_ends(found),
            *self._sides(found),
            *self._densities(found),
            *self._leaks(found),
            *self._fragments(facts),
            *self._overlaps(facts),
        ]

    def _volumes(self, facts: LabelFacts, found: Found) -> Iterator[Flag]:
        for name, structure in found.items():
            volume = self.volume(structure, facts)
            low, high = self.document["structures"][name]["volume"]
            is_whole = self.document["judges_cut_structures"] or not structure.is_cut
            if volume > high or (volume < low and is_whole):  # cutting makes small, never large
                limits = f"{self.number(low)} to {self.number(high)}"
                fact = f"{self.number(volume)} {self.unit}, plausible are {limits}"
                yield Flag("volume", name, fact, self.ids[name])

    def _flat_ends(self, found: Found) -> Iterator[Flag]:
        for name, most in self.document["most_flat"].items():
            if name in found and (share := found[name].flat_end) > most:
                fact = f"ends in a plane of {share:.0%} of its largest area, as if cut off"
                yield Flag("flat", name, fact, self.ids[name])

    def _sides(self, found: Found) -> Iterator[Flag]:
        for key, (axis, words) in _RELATIONS.items():
            for name, other in self.document[key]:
                if name in found and other in found:
                    ahead = found[name].centre_mm[axis] - found[other].centre_mm[axis]
                    place = f"{words} {other.replace('_', ' ')}"
                    if ahead <= 0:
                        fact = f"not {place}: {-ahead:.0f} mm the other way"
                        yield Flag("side", name, fact, self.ids[name] + self.ids[other])

    def _densities(self, found: Found) -> Iterator[Flag]:
        for name, (low, high) in self.document["hu"].items():
            hu = found[name].hu if name in found else None
            if hu is not None and not low <= hu <= high:
                fact = f"{hu:.0f} HU on average, plausible are {low} to {high} HU"
                yield Flag("density", name, fact, self.ids[name])

    def _leaks(self, found: Found) -> Iterator[Flag]:
        for name, least in self.document["least_air"].items():
            air = found[name].air if name in found else None
            if air is not None and air < least:
                fact = f"{air:.0%} of it is air, plausible is {least:.0%} or more"
                yield Flag("leak", name, fact, self.ids[name])

    def _fragments(self, facts: LabelFacts) -> Iterator[Flag]:
        """Skip what the border cuts: it may well be in two pieces."""
        least = self.document["least_largest_piece"]
        for number, structure in facts.structures.items():
            is_whole = self.document["judges_cut_structures"] or not structure.is_cut
            share = structure.largest
            if is_whole and share is not None and share < least:
                fact = f"in pieces: the largest is {share:.0%} of it, less than {least:.0%}"
                yield Flag("fragments", self.names[number], fact, (number,))

    def _overlaps(self, facts: LabelFacts) -> Iterator[Flag]:
        for pair, most in self.document["most_overlap"].items():
            share = facts.overlaps.get(pair, 0.0)
            if share > most:
                fact = f"both claim {share:.0%} of the smaller one, plausible is {most:.0%} or less"
                yield Flag("overlap", pair, fact, ())

    @property
    def unit(self) -> str:
        """Return the unit of volumes."""
        return "ml" if self.document["volume_in"] == "ml" else "% of the CT"

    def number(self, volume: float) -> str:
        """Format a volume without its unit."""
        if self.document["volume_in"] == "ml":
            return f"{volume:,.0f}" if volume >= 10 else f"{volume:.1f}"
        return f"{100 * volume:.2f}"


def _joined(members: list[StructureFacts]) -> StructureFacts:
    """Treat several classes as one structure; it is unknown whether its ends are flat."""
    if len(members) == 1:
        return members[0]
    weights = np.array([member.ml for member in members])
    share = weights / weights.sum()

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(share @ np.array(known)) if len(known) == len(values) else None

    z, y, x = (share @ np.array([member.centre_mm for member in members])).tolist()
    return StructureFacts(
        ml=float(weights.sum()),
        centre_mm=(z, y, x),
        is_cut=any(member.is_cut for member in members),
        hu=mean([member.hu for member in members]),
        air=mean([member.air for member in members]),
    )


@cache
def _document(bodies: str) -> dict[str, Any]:
    path = files("uvlm.data").joinpath("plausible", f"{bodies}.json")
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document
