"""How far the maps of one model can be trusted: what a test on phantoms measured, or nothing.

On phantoms it is known which voxels a sentence is about. The test puts healthy background in place
of a planted finding, or of the tenth of a CT where a map is strongest, or of as many voxels
elsewhere, and reads whether the sentence is gone (benchmarks/map_trust.py). The numbers belong to
the weights that they were measured with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uvlm.errors import DataError

FILE_NAME: Final = "map_trust.json"
GONE_AT_LEAST: Final = 0.80  # of the sentences, when what they are about is removed
GONE_AT_MOST: Final = 0.10  # when as many voxels elsewhere are
LEAST_SENTENCES: Final = 100  # fewer prove nothing
NAMES: Final = {"contribution": "attention", "occlusion": "occlusion"}


@dataclass(frozen=True)
class Removal:
    """Shares of `count` sentences that were gone: with a place removed, and another as large."""

    here: float
    elsewhere: float
    count: int

    @property
    def passes(self) -> bool:
        """Whether sentences go with this place and stay with another."""
        enough = self.count >= LEAST_SENTENCES
        return enough and self.here >= GONE_AT_LEAST and self.elsewhere <= GONE_AT_MOST


@dataclass(frozen=True)
class MapTrust:
    """What was measured on true sentences.

    `planted` is about the findings themselves: whether sentences rest on what they are about at
    all. `maps` has, for each kind of map, the same for the tenth of a CT where it is strongest.
    """

    planted: Removal
    maps: Mapping[str, Removal]

    @classmethod
    def load(cls, folders: Sequence[Path], model_sha256: str) -> MapTrust | None:
        """Read the first record that belongs to these weights; None if there is none.

        Raises:
            DataError: a record is damaged.
        """
        for path in (folder / FILE_NAME for folder in folders):
            if not path.is_file():
                continue
            try:
                document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
                if document["model_sha256"] == model_sha256:
                    return cls.of(document)
            except (OSError, ValueError, KeyError, TypeError) as error:
                fact = f"not readable as a test of maps ({type(error).__name__}: {error})"
                raise DataError(path, fact, "measure again, or remove it") from None
        return None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> MapTrust:
        """Read a record that benchmarks/map_trust.py made."""

        def removal(shares: Mapping[str, Any]) -> Removal:
            here, elsewhere = float(shares["here"]), float(shares["elsewhere"])
            return Removal(here, elsewhere, int(shares["count"]))

        maps = {name: removal(shares) for name, shares in document["maps"].items()}
        return cls(removal(document["planted"]), maps)

    def is_evidence(self, kind: str) -> bool:
        """Whether maps of this kind mark what a sentence rests on."""
        return self.planted.passes and kind in self.maps and self.maps[kind].passes


def verdict(trust: MapTrust | None, kinds: Sequence[str]) -> str:
    """Say in a few sentences how far to trust the maps of a page."""
    if trust is None:
        return (
            "These maps are no evidence: whether they show what this model's sentences rest on was "
            "never measured."
        )
    good = [NAMES[kind] for kind in kinds if trust.is_evidence(kind)]
    bad = [NAMES[kind] for kind in kinds if not trust.is_evidence(kind)]
    told = [f"The maps of {' and '.join(bad)} are no evidence."] if bad else []
    if good:
        told.append(f"On phantoms, the maps of {' and '.join(good)} show what sentences rest on.")
    told.append(
        f"Measured on {trust.planted.count} true sentences about phantoms: with the planted "
        f"finding removed, {_shares(trust.planted, 'with as many voxels elsewhere removed')}."
    )
    told += [
        f"With the tenth of the CT removed where the map of {NAMES[kind]} is strongest, "
        f"{_shares(trust.maps[kind], 'with another tenth removed')}."
        for kind in kinds
        if kind in trust.maps
    ]
    return " ".join(told)


def _shares(removal: Removal, otherwise: str) -> str:
    here, elsewhere = (f"{100 * share:.0f} %" for share in (removal.here, removal.elsewhere))
    return f"{here} of the sentences were gone; {otherwise}, {elsewhere}"
