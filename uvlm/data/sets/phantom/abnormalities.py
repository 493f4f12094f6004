"""The 18 CT-RATE abnormalities planted in a phantom body, with side, lobe and size.

Contrast and extent are matched to voxels of about 7 mm, so that every abnormality can be seen at
the resolution the phantom profile trains on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from uvlm.data.sets.phantom import chest_findings, lung_findings
from uvlm.data.sets.phantom.canvas import Canvas, Planted

# Painter and ReXGroundingCT category of each abnormality; cardiomegaly is anatomy, not a lesion.
# In painting order: diffuse lung disease first, small dense findings last.
_PAINTERS: Final[dict[str, tuple[Callable[[Canvas], Planted], str | None]]] = {
    "Cardiomegaly": (chest_findings.cardiomegaly, None),
    "Mosaic attenuation pattern": (lung_findings.mosaic, "1f"),
    "Emphysema": (lung_findings.emphysema, "1c"),
    "Lung opacity": (lung_findings.opacity, "2c"),
    "Interlobular septal thickening": (lung_findings.septal, "1d"),
    "Consolidation": (lung_findings.consolidation, "2b"),
    "Atelectasis": (lung_findings.atelectasis, "2b"),
    "Pleural effusion": (chest_findings.pleural_effusion, "2e"),
    "Bronchiectasis": (lung_findings.bronchiectasis, "1b"),
    "Peribronchial thickening": (lung_findings.peribronchial, "1a"),
    "Pulmonary fibrotic sequela": (lung_findings.fibrosis, "2a"),
    "Lung nodule": (lung_findings.nodule, "2d"),
    "Pericardial effusion": (chest_findings.pericardial_effusion, "1f"),
    "Hiatal hernia": (chest_findings.hernia, "2h"),
    "Lymphadenopathy": (chest_findings.nodes, "2h"),
    "Coronary artery wall calcification": (chest_findings.coronary_calcification, "2h"),
    "Arterial wall calcification": (chest_findings.arterial_calcification, "2h"),
    "Medical material": (chest_findings.medical_material, "2h"),
}
CATEGORY_BY_ABNORMALITY: Final = {
    name: category for name, (_, category) in _PAINTERS.items() if category
}


def plant(abnormalities: Sequence[str], canvas: Canvas) -> list[Planted]:
    """Plant these abnormalities, in painting order."""
    return [paint(canvas) for name, (paint, _) in _PAINTERS.items() if name in abnormalities]
