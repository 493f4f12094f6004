"""A user's own CTs: copied into the store, never touched.

They are copied, not linked: the training data stay as the manifest describes them even if the user
edits, moves or deletes the originals, and nothing the pipeline does to its store can reach those. A
file is copied once; a second run only reads it to check that it is the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from uvlm.data.ct.find import image_suffix
from uvlm.data.sets.dataset import local_row
from uvlm.data.sets.own.find import OwnCt
from uvlm.data.sets.own.layout import CTS
from uvlm.environment import OWN_DATA
from uvlm.errors import ConfigError, DataError
from uvlm.files import copy_stream, file_sha256, filling_file, key_of
from uvlm.store import Row

SOURCE: Final = "folder"


def own_folder() -> Path:
    """Find the folder that the user names."""
    folder = OWN_DATA.read()
    if folder is None or not folder.is_dir():
        fact = f"{folder} is not a folder" if folder else "is not set"
        raise ConfigError(OWN_DATA.name, fact, "set it to the folder of your CTs and reports")
    return folder.resolve()


def copy_ct(ct: OwnCt, raw: Path) -> list[Row]:
    """Copy what the reader found below `raw`; returns a manifest row for each of its files."""
    files = sorted(ct.origin.paths)
    suffix = image_suffix(files[0].name)
    if ct.origin.kind == "file" and suffix:
        digest = file_sha256(files[0])
        target = raw / f"{ct.case_id}-{digest[:16]}{suffix}"
        return [_copy(files[0], target, digest, f"{CTS}{ct.case_id}{suffix}")]
    digests = [file_sha256(path) for path in files]
    series = raw / f"{ct.case_id}-{key_of(digests)}"
    # Numbers, because the user's own file names may name the patient.
    names = [f"{number:05d}.dcm" for number in range(1, len(files) + 1)]
    return [
        _copy(path, series / name, digest, f"{CTS}{ct.case_id}/{name}")
        for path, name, digest in zip(files, names, digests, strict=True)
    ]


def _copy(source: Path, target: Path, sha256: str, case: str) -> Row:
    """Copy a file whole or not at all, unless it is already there."""
    row = local_row(case, target, SOURCE, sha256)
    if target.exists() and target.stat().st_size == source.stat().st_size:
        return row
    with source.open("rb") as original, filling_file(target, durable=False) as copy:
        if copy_stream(original, copy) != sha256:
            raise DataError(source, "changed while it was copied", "run the command again")
    return row
