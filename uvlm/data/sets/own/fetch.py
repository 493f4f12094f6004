"""A user's own CTs: found by name, copied into the store, never touched.

They are copied, not linked: the training data stay as the manifest describes them even if the user
edits, moves or deletes the originals, and nothing the pipeline does to its store can reach those. A
file is copied once; a second run only reads it to check that it is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uvlm.data.sets.dataset import local_row
from uvlm.data.sets.own.layout import CTS, SUFFIXES, without_suffix
from uvlm.data.sets.own.table import OwnRow
from uvlm.environment import OWN_DATA
from uvlm.errors import ConfigError, DataError
from uvlm.files import copy_stream, file_sha256, filling_file, key_of
from uvlm.store import Row
from uvlm.tables import BadRow

SOURCE: Final = "folder"


def own_folder() -> Path:
    """Find the folder that the user names."""
    folder = OWN_DATA.read()
    if folder is None or not folder.is_dir():
        fact = f"{folder} is not a folder" if folder else "is not set"
        raise ConfigError(OWN_DATA.name, fact, "set it to the folder of your CTs and reports")
    return folder.resolve()


@dataclass(frozen=True)
class OwnCt:
    """A CT to copy: a file, or a folder of DICOM files."""

    case_id: str
    source: Path


def find_all(folder: Path, rows: Sequence[OwnRow]) -> tuple[list[OwnCt], list[BadRow]]:
    """Find each CT by its path or by its name, anywhere below the folder."""
    by_name: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        is_ct = path.is_dir() or path.name.lower().endswith(SUFFIXES)
        if is_ct and not hidden:
            by_name.setdefault(without_suffix(path.name), []).append(path)
    jobs, faults = [], []
    for row in rows:
        direct = folder / row.file
        found = [direct] if direct.exists() else by_name.get(without_suffix(row.file), [])
        if len(found) == 1:
            jobs.append(OwnCt(row.case_id, found[0]))
        elif found:
            names = " and ".join(path.relative_to(folder).as_posix() for path in found[:3])
            fact = f"{row.place}: {len(found)} files match: {names}"
            faults.append(BadRow(row.case_id, "ambiguous_file", fact))
        else:
            fact = f"{row.place}: there is no {row.file} with one of {', '.join(SUFFIXES)}"
            faults.append(BadRow(row.case_id, "missing_file", fact))
    return jobs, faults


def copy_ct(ct: OwnCt, raw: Path) -> list[Row]:
    """Copy one CT below `raw`; returns a manifest row for each of its files."""
    if ct.source.is_file():
        suffix = next(s for s in SUFFIXES if ct.source.name.lower().endswith(s))
        digest = file_sha256(ct.source)
        target = raw / f"{ct.case_id}-{digest[:16]}{suffix}"
        return [_copy(ct.source, target, digest, f"{CTS}{ct.case_id}{suffix}")]
    files = [p for p in sorted(ct.source.iterdir()) if p.is_file() and p.name[0] != "."]
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
