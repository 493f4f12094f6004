"""The 18 CT-RATE abnormalities planted in a phantom body, with side, lobe and size.

Contrast and extent are matched to voxels of about 7 mm, so that every abnormality can be seen at
the resolution the phantom profile trains on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from uvlm.data.sets.phantom import chest_findings, lung_findings
from uvlm.data.sets.phantom.canvas import Canvas, Planted

# ReXGroundingCT category of each abnormality; cardiomegaly is anatomy, not a lesion.
CATEGORY_BY_ABNORMALITY: Final = {
    "Medical material": "2h",
    "Arterial wall calcification": "2h",
    "Pericardial effusion": "1f",
    "Coronary artery wall calcification": "2h",
    "Hiatal hernia": "2h",
    "Lymphadenopathy": "2h",
    "Emphysema": "1c",
    "Atelectasis": "2b",
    "Lung nodule": "2d",
    "Lung opacity": "2c",
    "Pulmonary fibrotic sequela": "2a",
    "Pleural effusion": "2e",
    "Mosaic attenuation pattern": "1f",
    "Peribronchial thickening": "1a",
    "Consolidation": "2b",
    "Bronchiectasis": "1b",
    "Interlobular septal thickening": "1d",
}

# Painting order: diffuse lung disease first, small dense findings last.
_PLANTERS: Final[dict[str, Callable[[Canvas], Planted]]] = {
    "Cardiomegaly": chest_findings.cardiomegaly,
    "Mosaic attenuation pattern": lung_findings.mosaic,
    "Emphysema": lung_findings.emphysema,
    "Lung opacity": lung_findings.opacity,
    "Interlobular septal thickening": lung_findings.septal,
    "Consolidation": lung_findings.consolidation,
    "Atelectasis": lung_findings.atelectasis,
    "Pleural effusion": chest_findings.pleural_effusion,
    "Bronchiectasis": lung_findings.bronchiectasis,
    "Peribronchial thickening": lung_findings.peribronchial,
    "Pulmonary fibrotic sequela": lung_findings.fibrosis,
    "Lung nodule": lung_findings.nodule,
    "Pericardial effusion": chest_findings.pericardial_effusion,
    "Hiatal hernia": chest_findings.hernia,
    "Lymphadenopathy": chest_findings.nodes,
    "Coronary artery wall calcification": chest_findings.coronary_calcification,
    "Arterial wall calcification": chest_findings.arterial_calcification,
    "Medical material": chest_findings.medical_material,
}


def plant(abnormality: str, canvas: Canvas) -> Planted:
    """Plant one abnormality."""
    return _PLANTERS[abnormality](canvas)


def painting_order(abnormalities: Iterator[str] | Sequence[str]) -> list[str]:
    """List the given abnormalities in the order in which they must be planted."""
    wanted = set(abnormalities)
    return [name for name in _PLANTERS if name in wanted]
