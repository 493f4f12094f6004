"""The abnormalities that reports are judged by, named and ordered as in the data sets.

ABNORMALITIES has the order of CT-RATE's label columns; label vectors, classifier outputs and the
rows of metrics tables follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from uvlm.config import Params

ABNORMALITIES: Final[tuple[str, ...]] = (
    "Medical material",
    "Arterial wall calcification",
    "Cardiomegaly",
    "Pericardial effusion",
    "Coronary artery wall calcification",
    "Hiatal hernia",
    "Lymphadenopathy",
    "Emphysema",
    "Atelectasis",
    "Lung nodule",
    "Lung opacity",
    "Pulmonary fibrotic sequela",
    "Pleural effusion",
    "Mosaic attenuation pattern",
    "Peribronchial thickening",
    "Consolidation",
    "Bronchiectasis",
    "Interlobular septal thickening",
)
ABDOMEN_LESIONS: Final[tuple[str, ...]] = ("Liver lesion", "Kidney lesion", "Pancreatic lesion")


def names_of(flags: Sequence[int]) -> tuple[str, ...]:
    """Name the flags of a case: 18 of a chest CT, 3 of an abdominal one."""
    return ABNORMALITIES if len(flags) == len(ABNORMALITIES) else ABDOMEN_LESIONS


def abnormality_names(params: Params) -> tuple[str, ...]:
    """Name the classes of the profile's data set, in the order of its label vectors."""
    return ABNORMALITIES if params.label_maps.dataset == "chest" else ABDOMEN_LESIONS
