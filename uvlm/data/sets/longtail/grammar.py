"""What the reports of `longtail` can say: templates as data, and every sentence that they give.

    wordings/home.json, wordings/foreign.json
      claims       of each abnormality: its block, sentences that state it or deny it, impressions
      boilerplate  sentences of each block that say nothing about any of the 18
      orders       in which the blocks may follow each other
      lobe ...     how a place is named

A template has the slots {place}, {flank}, {pleura} and {size}; {Size} begins a sentence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import product
from typing import Any, Final, Literal, Self, get_args

from uvlm.data.sets.phantom.reports import Lobe, PlantedFinding, Side, Size
from uvlm.text.abnormalities import ABNORMALITIES

Style = Literal["home", "foreign"]
STYLES: Final[tuple[Style, ...]] = get_args(Style)
_PLACE_SLOTS: Final = ("{place}", "{flank}", "{pleura}")
# Where a finding of a lobe can be; the left lung has no middle lobe, and both lungs may differ.
LOBAR: Final[tuple[tuple[Side, Lobe | None], ...]] = (
    ("right", "upper"), ("right", "middle"), ("right", "lower"),
    ("left", "upper"), ("left", "lower"),
    ("bilateral", "upper"), ("bilateral", "lower"), ("bilateral", None),
)  # fmt: skip


@dataclass(frozen=True)
class Wording:
    """How one abnormality is stated, denied, and named in an impression."""

    abnormality: str
    block: str
    present: tuple[str, ...]
    absent: tuple[str, ...]
    impression: tuple[str, ...]

    def findings(self) -> Iterator[PlantedFinding]:
        """List every finding that the templates tell apart."""
        has_place, has_flank, has_size = (
            any(slot in self.present[0].lower() for slot in slots)
            for slots in (("{place}",), _PLACE_SLOTS[1:], ("{size}",))
        )
        places: tuple[tuple[Side | None, Lobe | None], ...] = ((None, None),)
        if has_place:
            places = LOBAR
        elif has_flank:
            places = tuple((side, None) for side in get_args(Side))
        sizes: tuple[Size | None, ...] = get_args(Size) if has_size else (None,)
        for (side, lobe), size in product(places, sizes):
            yield PlantedFinding(self.abnormality, side, lobe, size)


@dataclass(frozen=True)
class Language:
    """One way of writing reports, in which everything is said."""

    names: Mapping[str, Any]  # of places, and the sentences that stand alone
    claims: Mapping[str, Wording]
    boilerplate: Mapping[str, tuple[str, ...]]

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Self:
        """Read one file of wordings/."""
        claims = {
            name: Wording(
                name, c["block"], *(tuple(c[k]) for k in ("present", "absent", "impression"))
            )
            for name, c in document.pop("claims").items()
        }
        normal = {block: tuple(said) for block, said in document.pop("boilerplate").items()}
        return cls(document, claims, normal)

    def fill(self, template: str, finding: PlantedFinding) -> str:
        """Write place and size of a finding into a template that has slots for them."""
        side, lobe, size = finding.side, finding.lobe, finding.size or ""
        both = side == "bilateral"
        place = self.names["lobes" if both else "lobe"] if lobe else self.names["lungs"]
        flank, pleura = (
            self.names[k] for k in (("flanks", "pleurae") if both else ("flank", "pleura"))
        )
        words = {"side": side, "lobe": lobe}
        return template.format(
            place=place.format(**words),
            flank=flank.format(**words),
            pleura=pleura.format(**words),
            size=size,
            Size=size.capitalize(),
        )

    def sentences(self) -> Iterator[tuple[str, PlantedFinding]]:
        """Every sentence that states a finding, with the finding."""
        for wording in self.claims.values():
            for template, finding in product(wording.present, wording.findings()):
                yield self.fill(template, finding), finding


@cache
def language(style: Style) -> Language:
    """Read the wordings of a style."""
    path = files(__package__).joinpath("wordings", f"{style}.json")
    found = Language.parse(json.loads(path.read_text(encoding="utf-8")))
    assert sorted(found.claims) == sorted(ABNORMALITIES)
    return found
