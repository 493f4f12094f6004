"""The 18 CT-RATE abnormalities planted in a phantom body, with side, lobe and size.

Contrast and extent are matched to voxels of about 7 mm, so that every abnormality can be seen at
the resolution the phantom profile trains on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from uvlm.data.phantom import lungs, thorax
from uvlm.data.phantom.canvas import Canvas, Planted

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
    "Cardiomegaly": thorax.cardiomegaly,
    "Mosaic attenuation pattern": lungs.mosaic,
    "Emphysema": lungs.emphysema,
    "Lung opacity": lungs.opacity,
    "Interlobular septal thickening": lungs.septal,
    "Consolidation": lungs.consolidation,
    "Atelectasis": lungs.atelectasis,
    "Pleural effusion": thorax.pleural_effusion,
    "Bronchiectasis": lungs.bronchiectasis,
    "Peribronchial thickening": lungs.peribronchial,
    "Pulmonary fibrotic sequela": lungs.fibrosis,
    "Lung nodule": lungs.nodule,
    "Pericardial effusion": thorax.pericardial_effusion,
    "Hiatal hernia": thorax.hernia,
    "Lymphadenopathy": thorax.nodes,
    "Coronary artery wall calcification": thorax.coronary_calcification,
    "Arterial wall calcification": thorax.arterial_calcification,
    "Medical material": thorax.medical_material,
}


def plant(abnormality: str, canvas: Canvas) -> Planted:
    """Plant one abnormality."""
    return _PLANTERS[abnormality](canvas)


def painting_order(abnormalities: Iterator[str] | Sequence[str]) -> list[str]:
    """List the given abnormalities in the order in which they must be planted."""
    wanted = set(abnormalities)
    return [name for name in _PLANTERS if name in wanted]
