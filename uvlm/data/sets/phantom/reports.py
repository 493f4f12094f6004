"""Reports of phantoms, written from the findings that were planted.

A report has one sentence for each of the 18 abnormalities, present or absent, always in the same
order, so that silence never means absence. The deciding word comes first ("No emphysema." against
"Emphysema in the left upper lobe."): a decoder that predicts it has made the diagnosis. A report
has one of two styles and keeps to it in nine sentences out of ten.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, Literal, NamedTuple

import numpy as np

from uvlm.text.abnormalities import ABNORMALITIES

Side = Literal["right", "left", "bilateral"]
Lobe = Literal["upper", "middle", "lower"]
Size = Literal["small", "moderate", "large"]

KEEP_STYLE: Final = 0.9
MAX_IN_IMPRESSION: Final = 3
NOTHING_FOUND: Final = "No active disease."
OPENING: Final = ("Trachea is midline and open.", "Central airways are open.")
CLOSING: Final = "Bones are intact."
_CLINICAL_INFORMATION: Final = ("Cough.", "Shortness of breath.", "Chest pain.", "Follow up.")
_TECHNIQUE: Final = "Chest CT without contrast, thin axial sections."


@dataclass(frozen=True)
class PlantedFinding:
    """An abnormality painted into a phantom; a property that it lacks is None."""

    abnormality: str
    side: Side | None = None
    lobe: Lobe | None = None
    size: Size | None = None

    def __post_init__(self) -> None:
        if self.abnormality not in ABNORMALITIES:
            raise ValueError(f"{self.abnormality!r} is not one of the {len(ABNORMALITIES)}")


class ReportText(NamedTuple):
    """The four text columns of CT-RATE's report table."""

    clinical_information: str
    technique: str
    findings: str
    impression: str


class Wording(NamedTuple):
    """How one abnormality is put into words: one template per style.

    The slots are {lung}, {pleura}, {size} and {volume}; each brings its own leading space and is
    empty where the finding lacks the property.
    """

    abnormality: str
    present: tuple[str, str]
    absent: tuple[str, str]
    in_impression: str


_TABLES: Final = json.loads(
    files("uvlm.data.sets.phantom").joinpath("wordings.json").read_text(encoding="utf-8")
)
# In the order of a report's sentences.
WORDINGS: Final = tuple(
    Wording(e["abnormality"], tuple(e["present"]), tuple(e["absent"]), e["in_impression"])
    for e in _TABLES["wordings"]
)
IMPORTANCE: Final[tuple[str, ...]] = tuple(_TABLES["importance"])
_WORDING_OF: Final = {wording.abnormality: wording for wording in WORDINGS}


def write_report(findings: Sequence[PlantedFinding], generator: np.random.Generator) -> ReportText:
    """Put the planted findings, and the absence of all others, into words.

    Args:
        findings: what was planted, in any order; two of one abnormality get a sentence each.
        generator: chooses the style and the boilerplate, never what is said.
    """
    style = int(generator.integers(2))
    keeps = generator.random(len(WORDINGS)) < KEEP_STYLE
    sentences = [OPENING[style]]
    for wording, keep in zip(WORDINGS, keeps, strict=True):
        sentences += _sentences(wording, findings, style if keep else 1 - style)
    if generator.random() < 0.5:
        sentences.append(CLOSING)
    clinical = _CLINICAL_INFORMATION[generator.integers(len(_CLINICAL_INFORMATION))]
    return ReportText(clinical, _TECHNIQUE, " ".join(sentences), write_impression(findings))


def write_impression(findings: Sequence[PlantedFinding]) -> str:
    """Name the most important findings; the same findings always give the same words."""
    planted = {finding.abnormality for finding in findings}
    names = [_WORDING_OF[name].in_impression for name in IMPORTANCE if name in planted]
    return f"Signs of {', '.join(names[:MAX_IN_IMPRESSION])}." if names else NOTHING_FOUND


def describe(finding: PlantedFinding) -> str:
    """Write one sentence about one finding, in the first style."""
    return fill_slots(_WORDING_OF[finding.abnormality].present[0], finding)


def fill_slots(template: str, finding: PlantedFinding) -> str:
    """Write a finding's location and size into a template that has slots for them."""
    return template.format(
        lung=_in_lung(finding.side, finding.lobe),
        pleura=_on_side(finding.side),
        size=f" of {finding.size} size" if finding.size else "",
        volume=f" of {finding.size} volume" if finding.size else "",
    )


def _sentences(wording: Wording, findings: Sequence[PlantedFinding], style: int) -> list[str]:
    """Describe each planted finding of one abnormality, or say that it is absent."""
    planted = [finding for finding in findings if finding.abnormality == wording.abnormality]
    described = [fill_slots(wording.present[style], finding) for finding in planted]
    return described or [wording.absent[style]]


def _in_lung(side: Side | None, lobe: Lobe | None) -> str:
    if side is None and lobe is None:
        return ""
    if side == "bilateral":
        return f" in both {lobe} lobes" if lobe else " in both lungs"
    words = [word for word in (side, lobe) if word]
    return f" in the {' '.join(words)} {'lobe' if lobe else 'lung'}"


def _on_side(side: Side | None) -> str:
    if side is None:
        return ""
    return " on both sides" if side == "bilateral" else f" on the {side}"
