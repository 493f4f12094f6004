"""A person's own CTs and reports: found by name, copied into the store, never touched.

They are copied, not linked: what was trained on stays what the manifest says when the person edits,
moves or deletes the originals, and nothing the pipeline does to its store can reach them. A file is
copied once; a second run only reads it to see that it is the same.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

from uvlm import store
from uvlm.config import FolderConfig
from uvlm.data.sets.own.layout import CTS, FAULTS, LABELS, TABLE
from uvlm.data.sets.own.table import SUFFIXES, OwnRow, read_own_table, without_suffix
from uvlm.data.sets.source import local_row
from uvlm.environment import OWN_DATA
from uvlm.errors import ConfigError, DataError
from uvlm.files import (
    copy_stream,
    file_sha256,
    filling_file,
    key_of,
    store_root,
    write_bytes_atomic,
)
from uvlm.store import CaseProgress, Row
from uvlm.tables import BadRow
from uvlm.text.abnormalities import ABNORMALITIES

Label = Callable[
    [Sequence[str]], Sequence[Sequence[int]]
]  # report texts to flags, as ABNORMALITIES
SOURCE: Final = "folder"


@dataclass(frozen=True)
class Folder:
    """The folder that `$UVLM_OWN_DATA` names."""

    config: FolderConfig
    label: Label

    def fetch(self, manifest: Path, progress: CaseProgress | None = None) -> None:
        """Copy table and CTs; see `Source`."""
        folder = own_folder()
        table = folder / self.config.table
        good, _ = read_own_table(table, self.config)
        jobs, faults = _find_all(folder, good)
        if not jobs:
            fact = f"none of the {len(good)} CTs that {self.config.table} names is there"
            raise DataError(folder, fact, "name the files as the ids, or set file_column")
        labels = self._labels(good)
        work = partial(_copy_ct, raw=store_root() / "raw" / "own")
        copies = store.map_cases(work, jobs, description="own CTs", progress=progress)
        rows = [local_row(case, path, sha256, SOURCE) for ct in copies for case, path, sha256 in ct]
        rows.append(_small(TABLE, table.read_bytes(), SOURCE))
        rows.append(_small(FAULTS, json.dumps([asdict(f) for f in faults]).encode(), SOURCE))
        if labels:
            rows.append(_small(LABELS, labels, "labeller"))
        store.write_manifest(manifest, rows)

    def _labels(self, rows: Sequence[OwnRow]) -> bytes:
        """Label the reports when the table does not: unknown flags must not become 0."""
        if rows[0].flags is not None:
            return b""
        flags = self.label([row.report.text for row in rows])
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(("VolumeName", *ABNORMALITIES))
        writer.writerows([r.case_id, *map(int, f)] for r, f in zip(rows, flags, strict=True))
        return buffer.getvalue().encode()


def own_folder() -> Path:
    """Find the folder that the person names."""
    folder = OWN_DATA.read()
    if folder is None:
        remedy = "let it name the folder of your CTs and reports"
        raise ConfigError(OWN_DATA.name, "is not set", remedy)
    if not folder.is_dir():
        raise ConfigError(OWN_DATA.name, f"{folder} is no folder", "name the folder of your CTs")
    return folder.resolve()


@dataclass(frozen=True)
class _Job:
    """A CT to be copied: a file, or a folder of DICOM files."""

    case_id: str
    source: Path


def _find_all(folder: Path, rows: Sequence[OwnRow]) -> tuple[list[_Job], list[BadRow]]:
    """Find each CT by its path or its name, anywhere below the folder."""
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
            jobs.append(_Job(row.case_id, found[0]))
        elif found:
            names = " and ".join(path.relative_to(folder).as_posix() for path in found[:3])
            fact = f"{row.place}: {len(found)} files could be meant: {names}"
            faults.append(BadRow(row.case_id, "ambiguous_file", fact))
        else:
            fact = f"{row.place}: there is no {row.file} with one of {', '.join(SUFFIXES)}"
            faults.append(BadRow(row.case_id, "missing_file", fact))
    return jobs, faults


def _copy_ct(job: _Job, raw: Path) -> list[tuple[str, Path, str]]:
    """Copy one CT; gives path in the data set, copy and sha256 of every file."""
    if job.source.is_file():
        suffix = next(s for s in SUFFIXES if job.source.name.lower().endswith(s))
        digest = file_sha256(job.source)
        target = raw / f"{job.case_id}-{digest[:16]}{suffix}"
        return [(f"{CTS}{job.case_id}{suffix}", _copy(job.source, target, digest), digest)]
    files = [p for p in sorted(job.source.iterdir()) if p.is_file() and p.name[0] != "."]
    digests = [file_sha256(path) for path in files]
    series = raw / f"{job.case_id}-{key_of(digests)}"
    copies = []
    for number, (path, digest) in enumerate(zip(files, digests, strict=True), start=1):
        name = f"{number:05d}.dcm"  # a person's own file names may name the patient
        target = _copy(path, series / name, digest)
        copies.append((f"{CTS}{job.case_id}/{name}", target, digest))
    return copies


def _copy(source: Path, target: Path, sha256: str) -> Path:
    """Copy a file whole or not at all; what is there already has been copied whole."""
    if target.exists() and target.stat().st_size == source.stat().st_size:
        return target
    with source.open("rb") as original, filling_file(target, durable=False) as copy:
        if copy_stream(original, copy) != sha256:
            raise DataError(source, "changed while it was copied", "run it again")
    return target


def _small(case: str, content: bytes, source: str) -> Row:
    """Write a small file under a name that belongs to its content."""
    name = Path(case)
    folder, key = store_root() / "raw" / "own", key_of(content.hex())
    path = folder / f"{name.stem}-{key}{name.suffix}"
    write_bytes_atomic(path, content)
    return local_row(case, path, file_sha256(path), source)
