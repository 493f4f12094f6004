"""AbdomenAtlas' layout for a rehearsal: the enlarged phantoms in archives, and masks by structure.

The organs of a phantom are those of a chest. Each of the published structures gets one of them, cut
along z so that all differ; lesions are cubes in the first organs.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from uvlm.data.ct.io import read_label_map, write_label_map
from uvlm.data.ct.volume import LabelMap
from uvlm.data.label_scheme import fine_classes
from uvlm.data.sets.abdomen_atlas import layout
from uvlm.data.sets.ct_rate.layout import parse_id
from uvlm.data.sets.ct_rate.tables import csv_text
from uvlm.files import write_text_atomic

_ID: Final = "BDMAP ID"
_COUNTS: Final = tuple(
    f"number of {organ} lesion instances" for organ in ("liver", "kidney", "pancreatic")
)
_REPORTS: Final = (
    "structured report", "narrative report", "fusion structured report", "fusion narrative report",
)  # fmt: skip
_LESION: Final = 1 / 24  # of a side


def write_abdomens(chests: Path, root: Path, records: Sequence[dict[str, Any]]) -> None:
    """Turn phantoms in CT-RATE's layout into archives and tables; the phantoms' CTs are used up.

    Args:
        chests: the phantoms.
        root: gets the files of the repository.
        records: of the phantoms' patients.
    """
    unpacked, rows, parts = root / "unpacked", [], {"train": [[_ID]], "test": [[_ID]]}
    for number, record in enumerate(records):
        case = f"BDMAP_{number + 1:08d}"
        volume = record["volumes"][0]
        name = parse_id(volume["volume"].removesuffix(".nii.gz"))
        assert name is not None  # phantoms are named as in CT-RATE
        ct = unpacked / layout.image(case)
        ct.parent.mkdir(parents=True)
        shutil.move(chests / name.volume, ct)
        lesions = [int(flag) for flag in volume["labels"][:3]]
        _write_masks(unpacked, case, read_label_map(chests / name.anatomy_mask), lesions)
        text = f"Findings: {volume['report'][2]}\nImpression: {volume['report'][3]}"
        rows.append([case, *lesions, *[text] * len(_REPORTS)])
        parts["train" if name.part == "train" else "test"].append([case])
    _pack(unpacked, root)
    write_text_atomic(root / layout.TABLE, csv_text((_ID, *_COUNTS, *_REPORTS), rows))
    for part, ids in (("train", layout.TRAIN_IDS), ("test", layout.TEST_IDS)):
        write_text_atomic(root / ids, csv_text(parts[part][0], parts[part][1:]))


def _write_masks(folder: Path, case: str, organs: LabelMap, lesions: Sequence[int]) -> None:
    names = fine_classes("abdomen").names[1:]
    for name, mask in zip(names, _masks(organs.array, len(names) - 3, lesions), strict=True):
        write_label_map(folder / layout.mask(case, name), LabelMap(mask, organs.affine))


def _masks(ids: Any, num_structures: int, lesions: Sequence[int]) -> Iterator[Any]:
    """Yield a mask for each structure, then one for each kind of lesion."""
    present = [int(id_) for id_ in np.unique(ids) if id_]
    slabs = -(-num_structures // len(present))
    slab = (np.arange(ids.shape[0]) * slabs // ids.shape[0])[:, None, None]
    for number in range(num_structures):
        organ, part = present[number % len(present)], number // len(present)
        yield ((ids == organ) & (slab == part)).astype(np.uint8)
    sides = [max(1, round(size * _LESION)) for size in ids.shape]
    for number, there in enumerate(lesions):
        mask = np.zeros_like(ids)
        if there:
            corner = [int(axis.mean()) for axis in np.nonzero(ids == present[number])]
            mask[tuple(slice(at, at + n) for at, n in zip(corner, sides, strict=True))] = 1
        yield mask.astype(np.uint8)


def _pack(unpacked: Path, root: Path) -> None:
    """Put everything into the archives that the layout names."""
    for kind, folder in (("images", "image_only"), ("masks", "mask_only")):
        cases = sorted(path.name for path in (unpacked / folder).iterdir())
        archive = root / layout.archive(kind, cases[0])  # type: ignore[arg-type]
        archive.parent.mkdir(parents=True)
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            for case in cases:
                tar.add(unpacked / folder / case, case)
    shutil.rmtree(unpacked)
