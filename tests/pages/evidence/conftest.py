"""A small CT with a nodule, its masks, and a draft: something right, wrong, and unfounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from uvlm.data.ct.volume import LabelMap, Volume
from uvlm.data.label_scheme import scheme
from uvlm.pages.evidence.page import EvidencePage
from uvlm.pages.evidence.places import PlaceMap
from uvlm.text.draft import Claim, Draft, Provenance, Read, Sentence, Structure, UnlikeTraining

NAMES = scheme("chest", "fine_lesion").names
NODULE, LIVER = NAMES.index("nodule_or_mass"), NAMES.index("liver")
SHAPE = (20, 24, 28)
AT = (12, 10, 20)  # of the nodule: x to the left, so it is on the left
AFFINE = np.array([[0, 0, 2.0, -30], [0, 2.0, 0, -20], [4.0, 0, 0, 100], [0, 0, 0, 1]], float)


def chest() -> Volume:
    z, y, x = np.indices(SHAPE)
    hu = np.full(SHAPE, -1000, np.int16)
    inside = ((y - 12) / 11) ** 2 + ((x - 14) / 13) ** 2 < 1
    hu[inside] = 40
    for middle in (8, 20):
        hu[((y - 12) / 8) ** 2 + ((x - middle) / 5) ** 2 < 1] = -850
    hu[(abs(y - 20) < 2) & (abs(x - 14) < 2)] = 500
    hu[nodule()] = 60
    hu[(z < 5) & (x < 13) & inside] = 100
    return Volume(hu, AFFINE)


def nodule() -> Any:
    z, y, x = np.indices(SHAPE)
    return (2 * (z - AT[0])) ** 2 + (y - AT[1]) ** 2 + (x - AT[2]) ** 2 <= 9


def masks() -> LabelMap:
    ids = np.zeros(SHAPE, np.uint8)
    ids[nodule()] = NODULE
    ids[:5, 4:20, 2:13] = LIVER
    return LabelMap(ids, AFFINE)


SENTENCES = (
    Sentence(
        text="Nodule of small size in the left upper lobe.",
        part="findings",
        claims=(
            Claim(
                abnormality="Lung nodule",
                present=True,
                side=("left",),
                lobe=("upper",),
                size=("small",),
                probability=0.93,
                threshold=0.41,
                structures=("nodule_or_mass",),
                volume_ml=1.2,
            ),
        ),
    ),
    Sentence(
        text="Pleural effusion on the right.",
        part="findings",
        claims=(
            Claim(
                abnormality="Pleural effusion",
                present=True,
                side=("right",),
                probability=0.04,
                threshold=0.5,
                contradiction="the classifier gives 0.04, below its threshold of 0.50",
            ),
        ),
    ),
    Sentence(
        text="Emphysema is not seen.",
        part="findings",
        claims=(Claim(abnormality="Emphysema", present=False, probability=0.1, threshold=0.5),),
    ),
    Sentence(
        text="Compared with last year, unchanged.",
        part="findings",
        unsupported_by_one_ct="comparison with an earlier examination",
    ),
    Sentence(text="Signs of lung nodule.", part="impression"),
)


def provenance() -> Provenance:
    read = Read(
        text="one file", kind="file", id="ct-1", files=1, slices=SHAPE[0], shape=SHAPE,
        spacing_mm=(4.0, 2.0, 2.0), orientation="LPS", affine=tuple(map(tuple, AFFINE.tolist())),
    )  # fmt: skip
    return Provenance(
        read=read, voxels_sha256="a" * 64, request="b" * 64, model_sha256="c" * 64,
        contract_sha256="d" * 64, population_sha256=None, trained_on="phantom",
        versions={"uvlm": "0.1.0"}, device="cpu", precision="float32", seconds={"read": 0.1},
    )  # fmt: skip


def draft(**changes: Any) -> Draft:
    values: dict[str, Any] = {
        "case_id": "case-1",
        "disclaimer": "UNREVIEWED RESEARCH DRAFT.",
        "notes": (),
        "report": " ".join(sentence.text for sentence in SENTENCES),
        "findings": "",
        "impression": "",
        "withheld": None,
        "unlike_training": UnlikeTraining(checked=True),
        "labeller": "rules",
        "sentences": SENTENCES,
        "probabilities": {"Lung nodule": 0.93, "Pleural effusion": 0.04},
        "thresholds": {"Lung nodule": 0.41, "Pleural effusion": 0.5},
        "structures": (
            Structure(class_id=LIVER, name="liver", volume_ml=14.1),
            Structure(class_id=NODULE, name="nodule_or_mass", volume_ml=1.2),
        ),
        "not_trained": (),
        "provenance": provenance(),
    }
    return Draft(**values | changes)


def maps() -> dict[str, list[PlaceMap]]:
    """Strongest at the nodule, on a coarser grid."""
    strength = np.zeros((10, 12, 14), np.float32)
    strength[AT[0] // 2, AT[1] // 2, AT[2] // 2] = 3.0
    strength[2, 2, 2] = 1.0
    coarse = AFFINE.copy()
    coarse[:, :3] *= 2
    coarse[:3, 3] += AFFINE[:3, :3].sum(1) / 2
    return {
        "Lung nodule": [PlaceMap(kind, strength, coarse) for kind in ("contribution", "occlusion")]
    }


Pages = Callable[..., EvidencePage]


@pytest.fixture
def page() -> Pages:
    def make(written: Draft | None = None, **changes: Any) -> EvidencePage:
        values: dict[str, Any] = {
            "volume": chest(),
            "label_map": masks(),
            "class_names": NAMES,
            "maps": maps(),
        }
        return EvidencePage(written or draft(), **values | changes)

    return make
