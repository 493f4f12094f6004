"""Reports of phantoms, written from the findings that were planted.

One sentence for each of the 18 abnormalities, always in the same order, present or absent, so that
silence never means absence. The word that decides comes first ("No emphysema." against "Emphysema
in the left upper lobe."): a decoder that predicts it has made the diagnosis. A report has one of
two styles and keeps it in nine sentences of ten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np

from uvlm.text.abnormalities import ABNORMALITIES

Side = Literal["right", "left", "bilateral"]
Lobe = Literal["upper", "middle", "lower"]
Size = Literal["small", "moderate", "large"]

KEEP_STYLE: Final = 0.9
NOTHING_FOUND: Final = "No active disease."


@dataclass(frozen=True)
class PlantedFinding:
    """An abnormality that was painted into a phantom; None where it has no such property."""

    abnormality: str
    side: Side | None = None
    lobe: Lobe | None = None
    size: Size | None = None

    def __post_init__(self) -> None:
        if self.abnormality not in ABNORMALITIES:
            raise ValueError(f"{self.abnormality!r} is none of the {len(ABNORMALITIES)}")


class ReportText(NamedTuple):
    """The four text columns of CT-RATE's report table."""

    clinical_information: str
    technique: str
    findings: str
    impression: str


class Wording(NamedTuple):
    """How one abnormality is put into words: one template for each style.

    Slots are {lung}, {pleura}, {size} and {volume}; each brings its own leading space and is empty
    where the finding lacks the property.
    """

    abnormality: str
    present: tuple[str, str]
    absent: tuple[str, str]
    in_impression: str


WORDINGS: Final[tuple[Wording, ...]] = (
    Wording(
        "Medical material",
        ("Medical device is in place.", "Implanted device is seen."),
        ("No medical device.", "Without implanted device."),
        "medical device",
    ),
    Wording(
        "Cardiomegaly",
        ("Cardiomegaly is present.", "Enlarged heart is seen."),
        ("Normal heart size.", "Without enlarged heart."),
        "cardiomegaly",
    ),
    Wording(
        "Pericardial effusion",
        ("Pericardial effusion{volume}.", "Fluid{volume} around the heart."),
        ("No pericardial effusion.", "Without fluid around the heart."),
        "pericardial effusion",
    ),
    Wording(
        "Arterial wall calcification",
        ("Aortic wall calcification is present.", "Calcified plaques in the aorta."),
        ("No aortic wall calcification.", "Without calcified plaques in the aorta."),
        "aortic calcification",
    ),
    Wording(
        "Coronary artery wall calcification",
        ("Coronary artery calcification is present.", "Calcified coronary plaques are seen."),
        ("No coronary artery calcification.", "Without calcified coronary plaques."),
        "coronary calcification",
    ),
    Wording(
        "Lymphadenopathy",
        ("Lymphadenopathy in the mediastinum.", "Enlarged mediastinal lymph nodes."),
        ("No lymphadenopathy in the mediastinum.", "Normal mediastinal lymph nodes."),
        "lymphadenopathy",
    ),
    Wording(
        "Hiatal hernia",
        ("Hiatal hernia is present.", "Sliding hernia is seen."),
        ("No hiatal hernia.", "Without sliding hernia."),
        "hiatal hernia",
    ),
    Wording(
        "Emphysema",
        ("Emphysema{lung}.", "Emphysematous areas{lung}."),
        ("No emphysema in the lungs.", "Without emphysematous areas."),
        "emphysema",
    ),
    Wording(
        "Mosaic attenuation pattern",
        ("Mosaic attenuation pattern is present.", "Mosaic density of the lungs."),
        ("No mosaic attenuation pattern.", "Without mosaic density."),
        "mosaic attenuation",
    ),
    Wording(
        "Bronchiectasis",
        ("Bronchiectasis{lung}.", "Dilated bronchi{lung}."),
        ("No bronchiectasis in the lungs.", "Without dilated bronchi."),
        "bronchiectasis",
    ),
    Wording(
        "Peribronchial thickening",
        ("Peribronchial thickening{lung}.", "Thickened bronchial walls{lung}."),
        ("No peribronchial thickening.", "Without thickened bronchial walls."),
        "peribronchial thickening",
    ),
    Wording(
        "Interlobular septal thickening",
        ("Interlobular septal thickening{lung}.", "Thickened septa{lung}."),
        ("No interlobular septal thickening.", "Without thickened septa."),
        "septal thickening",
    ),
    Wording(
        "Lung nodule",
        ("Nodule{size}{lung}.", "Nodular lesion{size}{lung}."),
        ("No nodule in the lungs.", "Without nodular lesion."),
        "lung nodule",
    ),
    Wording(
        "Lung opacity",
        ("Ground glass opacity{lung}.", "Hazy opacity{lung}."),
        ("No ground glass opacity.", "Without hazy opacity."),
        "lung opacity",
    ),
    Wording(
        "Consolidation",
        ("Consolidation{lung}.", "Consolidated area{lung}."),
        ("No consolidation in the lungs.", "Without consolidated area."),
        "consolidation",
    ),
    Wording(
        "Atelectasis",
        ("Atelectasis{lung}.", "Collapsed area{lung}."),
        ("No atelectasis in the lungs.", "Without collapsed area."),
        "atelectasis",
    ),
    Wording(
        "Pulmonary fibrotic sequela",
        ("Fibrotic sequela{lung}.", "Scar tissue{lung}."),
        ("No fibrotic sequela in the lungs.", "Without scar tissue."),
        "fibrotic sequela",
    ),
    Wording(
        "Pleural effusion",
        ("Pleural effusion{volume}{pleura}.", "Fluid{volume} in the pleural space{pleura}."),
        ("No pleural effusion on either side.", "Without fluid in the pleural space."),
        "pleural effusion",
    ),
)
MAX_IN_IMPRESSION: Final = 3
IMPORTANCE: Final[tuple[str, ...]] = (
    "Consolidation",
    "Pleural effusion",
    "Pericardial effusion",
    "Lung nodule",
    "Lung opacity",
    "Lymphadenopathy",
    "Cardiomegaly",
    "Emphysema",
    "Atelectasis",
    "Interlobular septal thickening",
    "Bronchiectasis",
    "Peribronchial thickening",
    "Mosaic attenuation pattern",
    "Pulmonary fibrotic sequela",
    "Coronary artery wall calcification",
    "Arterial wall calcification",
    "Hiatal hernia",
    "Medical material",
)
OPENING: Final[tuple[str, str]] = ("Trachea is midline and open.", "Central airways are open.")
CLOSING: Final = "Bones are intact."
_CLINICAL_INFORMATION: Final = ("Cough.", "Shortness of breath.", "Chest pain.", "Follow up.")
_TECHNIQUE: Final = "Chest CT without contrast, thin axial sections."
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
    clinical_information = _CLINICAL_INFORMATION[generator.integers(len(_CLINICAL_INFORMATION))]
    return ReportText(
        clinical_information, _TECHNIQUE, " ".join(sentences), write_impression(findings)
    )


def write_impression(findings: Sequence[PlantedFinding]) -> str:
    """Name the most important findings; the same findings always give the same words."""
    planted = {finding.abnormality for finding in findings}
    names = [_WORDING_OF[name].in_impression for name in IMPORTANCE if name in planted]
    return f"Signs of {', '.join(names[:MAX_IN_IMPRESSION])}." if names else NOTHING_FOUND


def describe(finding: PlantedFinding) -> str:
    """One sentence about one finding, in the first style."""
    return fill_slots(_WORDING_OF[finding.abnormality].present[0], finding)


def fill_slots(template: str, finding: PlantedFinding) -> str:
    """Write a finding's location and size into a template; what has no slot is left out."""
    return template.format(
        lung=_in_lung(finding.side, finding.lobe),
        pleura=_on_side(finding.side),
        size=f" of {finding.size} size" if finding.size else "",
        volume=f" of {finding.size} volume" if finding.size else "",
    )


def _sentences(wording: Wording, findings: Sequence[PlantedFinding], style: int) -> list[str]:
    """Say that one abnormality is absent, or describe each planted one."""
    planted = [finding for finding in findings if finding.abnormality == wording.abnormality]
    if not planted:
        return [wording.absent[style]]
    return [fill_slots(wording.present[style], finding) for finding in planted]


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
