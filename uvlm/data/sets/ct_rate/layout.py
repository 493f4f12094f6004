"""Names and paths of CT-RATE v2 and ReXGroundingCT, as published.

    ct_rate/dataset/{train,valid}_fixed/train_1/train_1_a/train_1_a_1.nii.gz    a volume, in HU
    ct_rate/dataset/ts_seg/ts_total/{train,valid}_fixed/...                     anatomy masks
    ct_rate/dataset/radiology_text_reports/{train,validation}_reports.csv
    ct_rate/dataset/multi_abnormality_labels/{train,valid}_predicted_labels.csv
    ct_rate/dataset/metadata/{train,validation}_metadata.csv
    ct_rate/dataset/metadata/no_chest_{train,valid}.txt                         volumes to exclude
    rexgroundingct/dataset.json, segmentations/train_1_a_1.nii.gz               findings masks

Below `ct_rate/` and `rexgroundingct/` the paths are those of the two repositories.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, NamedTuple

CT_RATE_REPO: Final = "ibrahimhamamci/CT-RATE"
REX_REPO: Final = "rajpurkarlab/ReXGroundingCT"
CT_RATE: Final = "ct_rate"
REX: Final = "rexgroundingct"
DATASET: Final = f"{CT_RATE}/dataset"
GROUNDING: Final = f"{REX}/dataset.json"
SUFFIX: Final = ".nii.gz"
_NAME: Final = re.compile(r"(train|valid)_(\d+)_([a-z])_(\d+)")


class Part(NamedTuple):
    """The tables of one official part, whose name varies from table to table."""

    prefix: str
    reports: str
    labels: str
    metadata: str
    no_chest: str


def _part(prefix: str, name: str) -> Part:
    return Part(
        prefix,
        f"{DATASET}/radiology_text_reports/{name}_reports.csv",
        f"{DATASET}/multi_abnormality_labels/{prefix}_predicted_labels.csv",
        f"{DATASET}/metadata/{name}_metadata.csv",
        f"{DATASET}/metadata/no_chest_{prefix}.txt",
    )


PARTS: Final = (_part("train", "train"), _part("valid", "validation"))


@dataclass(frozen=True)
class VolumeId:
    """A volume's name, parsed: part, patient, scan, reconstruction."""

    part: str
    patient: int
    scan: str
    reconstruction: int

    @property
    def patient_id(self) -> str:
        """The patient: train_1."""
        return f"{self.part}_{self.patient}"

    @property
    def scan_id(self) -> str:
        """The scan: train_1_a."""
        return f"{self.patient_id}_{self.scan}"

    @property
    def case_id(self) -> str:
        """The volume: train_1_a_1."""
        return f"{self.scan_id}_{self.reconstruction}"

    @property
    def volume(self) -> str:
        """The path of the volume."""
        return f"{DATASET}/{self._inside}"

    @property
    def anatomy_mask(self) -> str:
        """The path of TotalSegmentator's labels."""
        return f"{DATASET}/ts_seg/ts_total/{self._inside}"

    @property
    def findings_mask(self) -> str:
        """The path of ReXGroundingCT's mask, if there is one."""
        return f"{REX}/segmentations/{self.case_id}{SUFFIX}"

    @property
    def masks(self) -> dict[str, str]:
        """The path of each kind of mask; airways and vessels come with phantoms only."""
        drawn = {k: f"phantom_masks/{k}/{self.case_id}{SUFFIX}" for k in ("airway", "vessel")}
        return {"total": self.anatomy_mask, **drawn, "findings": self.findings_mask}

    @property
    def _inside(self) -> str:
        return f"{self.part}_fixed/{self.patient_id}/{self.scan_id}/{self.case_id}{SUFFIX}"


def parse_id(case_id: str) -> VolumeId | None:
    """Parse a case id; None if it is not the name of a CT-RATE volume."""
    match = _NAME.fullmatch(case_id)
    # A leading zero would give one volume two names.
    if match is None or any(n != str(int(n)) for n in (match[2], match[4])):
        return None
    return VolumeId(match[1], int(match[2]), match[3], int(match[4]))


def id_of(name: str) -> str:
    """Strip folders and suffix from a volume's name."""
    return PurePosixPath(name).name.removesuffix(SUFFIX)


def is_volume(path: str) -> bool:
    """Whether a path of the data set is a volume."""
    return path.startswith((f"{DATASET}/train_fixed/", f"{DATASET}/valid_fixed/"))
