"""Names and paths of AbdomenAtlas 3.0 Mini, as published.

    abdomen_atlas/AbdomenAtlas3.0MiniWithMeta.csv                           one row per CT
    abdomen_atlas/TrainTestIDS/{IID_train,IID_test}.csv                     the official split
    abdomen_atlas/image_only/BDMAP_00000001/ct.nii.gz                       from 40 archives
    abdomen_atlas/mask_only/BDMAP_00000001/segmentations/liver.nii.gz       from 40 archives

An archive holds 232 CTs (some 14 GB), or their masks:
image_only/AbdomenAtlas3_images_BDMAP_BDMAP_00000001_BDMAP_00000232.tar.gz
"""

from __future__ import annotations

import re
from typing import Final, Literal

REPO: Final = "AbdomenAtlas/AbdomenAtlas3.0Mini"
PREFIX: Final = "abdomen_atlas"
TABLE: Final = "AbdomenAtlas3.0MiniWithMeta.csv"
TRAIN_IDS: Final = "TrainTestIDS/IID_train.csv"
TEST_IDS: Final = "TrainTestIDS/IID_test.csv"
Kind = Literal["images", "masks"]
_FOLDER: Final = {"images": "image_only", "masks": "mask_only"}
PER_ARCHIVE: Final = 232
_LAST: Final = 9262
_ID: Final = re.compile(r"BDMAP_(\d{8})")
_MEMBER: Final = {
    "images": re.compile(r"(?:\./)?(BDMAP_\d{8})/(ct)\.nii\.gz"),
    "masks": re.compile(r"(?:\./)?(BDMAP_\d{8})/segmentations/([a-z0-9_]+)\.nii\.gz"),
}


def is_id(case_id: str) -> bool:
    """Whether this is the id of a CT of the set."""
    match = _ID.fullmatch(case_id)
    return match is not None and 1 <= int(match[1]) <= _LAST


def archive(kind: Kind, case_id: str) -> str:
    """Name the archive that holds a CT or its masks."""
    first = (int(case_id.removeprefix("BDMAP_")) - 1) // PER_ARCHIVE * PER_ARCHIVE + 1
    last = min(first + PER_ARCHIVE - 1, _LAST)
    name = f"AbdomenAtlas3_{kind}_BDMAP_BDMAP_{first:08d}_BDMAP_{last:08d}.tar.gz"
    return f"{_FOLDER[kind]}/{name}"


def member(kind: Kind, name: str) -> tuple[str, str] | None:
    """Parse the name of an archive member into CT and structure; None for anything else."""
    match = _MEMBER[kind].fullmatch(name)
    return (match[1], match[2]) if match and is_id(match[1]) else None


def image(case_id: str) -> str:
    """Return the path of a CT."""
    return f"{_FOLDER['images']}/{case_id}/ct.nii.gz"


def mask(case_id: str, structure: str) -> str:
    """Return the path of the mask of one structure."""
    return f"{_FOLDER['masks']}/{case_id}/segmentations/{structure}.nii.gz"
