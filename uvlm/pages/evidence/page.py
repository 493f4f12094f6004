"""evidence.html: a CT in three planes and 3D, its draft beside it, and why each sentence is there.

The page is one file and opens no connection: viewer, styles and volumes are inside, and its content
security policy allows only its own two scripts, by their hashes. Whatever was generated is escaped
by the template; scripts write text, never markup.

(D, H, W) = (z, y, x).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any, Final

import numpy as np

from uvlm.arrays import Flags
from uvlm.data.ct.volume import LabelMap, Volume, axis_order
from uvlm.data.label_scheme import fine_classes
from uvlm.pages.evidence.map_trust import MapTrust, verdict
from uvlm.pages.evidence.places import PlaceMap, Point, focus, peak, share_inside
from uvlm.pages.evidence.volumes import Shown, as_bytes, fitting, packed
from uvlm.pages.html import render
from uvlm.pages.viewer.bundle import load_viewer
from uvlm.text.draft import Claim, Draft, Sentence

STATEMENT: Final = "Research draft, not reviewed, not a medical device."
MAP_NAMES: Final = {"contribution": "Attention", "occlusion": "Occlusion"}
WINDOWS: Final = (("Lung", -600, 1500), ("Mediastinum", 40, 400), ("Bone", 400, 1800))
# Hues far from each other and from the greys of a CT; lesions take the warm ones.
_ANATOMY: Final = ("#4cc9f0", "#80ed99", "#b8c0ff", "#48bfe3", "#c77dff", "#57cc99", "#90dbf4")
_LESIONS: Final = ("#ff4d6d", "#ffb703", "#ff7b00", "#f72585", "#ffd60a", "#fb5607", "#ff8fa3")


@dataclass(frozen=True)
class Near:
    """A training case that looks alike to the classifier."""

    case_id: str
    report: str
    similarity: float


@dataclass(frozen=True, eq=False)
class EvidencePage:
    """All that a page shows.

    Args:
        draft: what report.json says.
        volume: the CT in the axes of its file.
        label_map: class ids on the same grid, or None.
        class_names: of the ids.
        maps: the maps of each abnormality, each at least 0 everywhere.
        trust: what is known of how far to trust the maps.
        near: training cases that look alike.
    """

    draft: Draft
    volume: Volume
    label_map: LabelMap | None
    class_names: Sequence[str]
    maps: Mapping[str, Sequence[PlaceMap]]
    trust: MapTrust | None = None
    near: Sequence[Near] = ()

    def html(self) -> str:
        """Fill the template."""
        viewer, app, style = load_viewer(), _text("evidence.js"), _text("evidence.css")
        claims = [[self._claim(claim) for claim in s.claims] for s in self.draft.sentences]
        page = {
            "draft": self.draft,
            "statement": STATEMENT,
            "sentences": [*zip(self.draft.sentences, claims, map(state_of, self.draft.sentences),
                               strict=True)],
            "data": self._data(claims),
            "payloads": self._payloads,
            "windows": WINDOWS,
            "map_names": self._map_names(),
            "verdict": verdict(self.trust, self._kinds),
            "near": self.near,
            "viewer": viewer,
            "app": app,
            "style": style,
            "policy": _policy((viewer.script, app), style),
        }  # fmt: skip
        return render("evidence.html.j2", page)

    @cached_property
    def _shown(self) -> Shown:
        return fitting(self.volume)

    @cached_property
    def _kinds(self) -> list[str]:
        found = {shown.kind for maps in self.maps.values() for shown in maps}
        return [kind for kind in MAP_NAMES if kind in found]

    @cached_property
    def _canonical(self) -> LabelMap | None:
        """The masks in LPS order on the CT's own voxels."""
        if self.label_map is None:
            return None
        array, affine = self.label_map.array, self.label_map.affine
        order = axis_order(affine)
        return LabelMap(order.view(array), order.canonical_affine(affine, array.shape))

    @cached_property
    def _payloads(self) -> dict[str, str]:
        """What the page carries, by the id of its element."""
        carried = {"volume-ct": self._shown.payload}
        if self.label_map is not None:
            shown = self._shown.labels(self.label_map.array, self._lesion_ids)
            carried["volume-masks"] = packed(shown, self._shown.affine)
        for number, (_, shown_map) in enumerate(self._numbered):
            carried[f"map-{number}"] = packed(as_bytes(shown_map.strength)[0], shown_map.affine)
        return carried

    @cached_property
    def _numbered(self) -> list[tuple[str, PlaceMap]]:
        return [(name, shown) for name, maps in self.maps.items() for shown in maps]

    @cached_property
    def _lesion_ids(self) -> frozenset[int]:
        return frozenset(i for i, name in enumerate(self.class_names) if name in lesion_names())

    def _map_names(self) -> dict[str, str]:
        """Name the kinds of maps, with what they are not known to be."""
        good = {kind for kind in self._kinds if self.trust and self.trust.is_evidence(kind)}
        doubt = {kind: "" if kind in good else " (no evidence)" for kind in self._kinds}
        return {kind: MAP_NAMES[kind] + doubt[kind] for kind in self._kinds}

    def _data(self, claims: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
        """Gather what the script needs, as JSON."""
        present = {s.class_id: s for s in self.draft.structures if s.class_id and s.volume_ml}
        return {
            "windows": [{"name": n, "level": level, "width": w} for n, level, w in WINDOWS],
            "sentences": [[claim["data"] for claim in row] for row in claims],
            "classes": [
                {
                    "id": number,
                    "name": structure.name.replace("_", " "),
                    "ml": structure.volume_ml,
                    "lesion": number in self._lesion_ids,
                    "colour": _colour(number, number in self._lesion_ids),
                }
                for number, structure in sorted(present.items())
            ],
            "shrunk": list(self._shown.geometry.scale),
        }

    def _claim(self, claim: Claim) -> dict[str, Any]:
        """Arrange one claim for the template, and for the script below `data`."""
        ids = [i for i, name in enumerate(self.class_names) if i and name in claim.structures]
        mask = self._mask(ids)
        maps = [*enumerate(self._numbered)]
        own = {s.kind: (n, s) for n, (name, s) in maps if name == claim.abnormality}
        inside = {}
        if mask is not None:
            affine = self._canonical.affine if self._canonical else np.eye(4)
            found = {kind: share_inside(shown, mask, affine) for kind, (_, shown) in own.items()}
            inside = {kind: shares for kind, shares in found.items() if shares}
        return {
            "claim": claim,
            "inside": inside,
            "words": words_of(claim),
            "data": {
                "name": claim.abnormality,
                "present": claim.present,
                "focus": self._focus(claim, mask, [shown for _, shown in own.values()]),
                "classes": ids,
                "maps": {kind: f"map-{number}" for kind, (number, _) in own.items()},
            },
        }

    def _mask(self, ids: Sequence[int]) -> Flags | None:
        if self._canonical is None or not ids:
            return None
        mask: Flags = np.isin(self._canonical.array, ids)
        return mask if mask.any() else None

    def _focus(self, claim: Claim, mask: Flags | None, maps: Sequence[PlaceMap]) -> Point | None:
        """Look at the mask, else where the first map is strongest; a denial has no place."""
        if not claim.present:
            return None
        if mask is not None and self._canonical is not None:
            return focus(mask, self._canonical.affine, claim.side)
        return peak(maps[0], claim.side) if maps else None


@cache
def lesion_names() -> frozenset[str]:
    """Names of the lesion classes of all data sets; any other class is anatomy."""
    tables = [fine_classes("chest"), fine_classes("abdomen")]
    return frozenset(t.names[i] for t in tables for i in t.lesion_id_by_category.values())


def state_of(sentence: Sentence) -> str:
    """Sum a sentence up in the class of its element."""
    if sentence.contradictions:
        return "contradicted"
    if sentence.unsupported_by_one_ct:
        return "unsupported"
    if any(claim.present for claim in sentence.claims):
        return "present"
    return "absent" if sentence.claims else "plain"


def words_of(claim: Claim) -> str:
    """Say what a claim says: "present, right, lower lobe, small"."""
    lobes = [f"{' and '.join(claim.lobe)} lobe"] if claim.lobe else []
    said = ["present" if claim.present else "absent"]
    return ", ".join([*said, *[" and ".join(claim.side)][: len(claim.side)], *lobes, *claim.size])


def _colour(number: int, is_lesion: bool) -> str:
    colours = _LESIONS if is_lesion else _ANATOMY
    return colours[number % len(colours)]


def _policy(scripts: Sequence[str], style: str) -> str:
    """Allow these scripts and this style, pictures made by the page itself, and nothing else."""
    allowed = " ".join(map(_hash, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _text(name: str) -> str:
    """Read a script or style of the page."""
    folder = files("uvlm.pages").joinpath("templates")
    return folder.joinpath(name).read_text(encoding="utf-8")
