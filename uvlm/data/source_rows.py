"""Which cases the rows of the downloaded tables speak of, so that every row can be accounted for.

This reads names only, whatever the adapter made of the rows, and so checks it from outside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

from uvlm.store import Row, resolve
from uvlm.tables import read_table, read_text

_VOLUME_COLUMN: Final = "VolumeName"
_GROUNDING: Final = "rexgroundingct/dataset.json"
_SUFFIX: Final = ".nii.gz"


def ids_by_table(files: Mapping[str, Row]) -> dict[str, list[str]]:
    """List the case of every row of every table that names volumes, and of every volume file.

    Args:
        files: the download manifest, by path inside the data set's root.
    """
    ids = {"volume files": [_id_of(path) for path in files if _is_volume(path)]}
    for path, row in files.items():
        if path.endswith(".csv"):
            table = read_table(resolve(row, "download"))
            if _VOLUME_COLUMN in table.columns:
                names = [r.values[_VOLUME_COLUMN] for r in table.rows]
                ids[PurePosixPath(path).name] = [_id_of(name) for name in names]
    return {name: found for name, found in ids.items() if found}


def grounding_parts(files: Mapping[str, Row]) -> dict[str, str]:
    """Say which part of ReXGroundingCT (train, val, test) each of its volumes belongs to."""
    if _GROUNDING not in files:
        return {}
    splits = json.loads(read_text(resolve(files[_GROUNDING], "download")))
    return {_id_of(entry["name"]): part for part in splits for entry in splits[part]}


def _is_volume(path: str) -> bool:
    return path.endswith(_SUFFIX) and "_fixed/" in path and "/ts_seg/" not in path


def _id_of(name: str) -> str:
    """Cut folders and suffix off a volume's name."""
    return PurePosixPath(name).name.removesuffix(_SUFFIX)
