"""Store maintenance: find what is missing, damaged or no longer needed.

Only arrays are ever collected: a stage makes them again from what stays. Raw data go on request
only, and the commit that a download was pinned to, listings, records, hidden files (locks, and
what is not whole yet) and arrays that are being made never go.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from uvlm.errors import DataError
from uvlm.files import file_sha256
from uvlm.seeding import unit_interval
from uvlm.store.arrays import array_sha256, load_array
from uvlm.store.fanout import CaseProgress, map_cases
from uvlm.store.manifest import Row, read_manifest
from uvlm.store.once import is_being_made

Digest = Callable[[Path, Row], str]
_ARRAY: Final = ".b2nd"
_RAW: Final = "raw"
_PIN: Final = "raw/revisions.json"


def digest_of(path: Path, row: Row) -> str:
    """Hash what a row describes: the values of an array, the bytes of any other file."""
    return array_sha256(load_array(path)) if path.suffix == _ARRAY else file_sha256(path)


@dataclass(frozen=True)
class Part:
    """How much of the store is hashed: a share of its files, chosen by the seed."""

    share: float = 1.0
    seed: int = 0

    def has(self, row: Row) -> bool:
        """Whether a row's file is hashed."""
        return unit_interval(self.seed, "verify", row.path) < self.share


@dataclass(frozen=True)
class Verdict:
    """What was checked, and one line for each entry that is missing or damaged."""

    files: int
    hashed: int
    absent: int  # by design: raw volumes that are fetched when a stage needs them
    problems: tuple[str, ...]


def verify(
    root: Path,
    manifests: Iterable[Path],
    digest: Digest = digest_of,
    *,
    part: Part | None = None,
    may_be_absent: Callable[[Row], bool] = lambda row: False,
    progress: CaseProgress | None = None,
) -> Verdict:
    """Compare the store with its manifests, every byte of it, on all cores.

    Args:
        root: the store.
        manifests: all manifests to check it against.
        digest: a picklable function that hashes a file as its row does.
        part: what to hash; the rest need only exist.
        may_be_absent: whether a file may be missing because it can be fetched again.
        progress: called as files are done.
    """
    named: dict[tuple[str, str], tuple[str, Row]] = {}  # a file is in several manifests
    for manifest in manifests:
        for row in read_manifest(manifest):
            named.setdefault((row.path, row.sha256), (f"{manifest.stem}: {row.case}", row))
    entries = list(named.values())
    absent = [row for _, row in entries if may_be_absent(row) and not (root / row.path).exists()]
    gone = {row.path for row in absent}
    there = [(name, row) for name, row in entries if row.path not in gone]
    check = partial(_problem, root=root, digest=digest, part=part or Part())
    found = map_cases(check, there, description="files", progress=progress)
    hashed = sum((part or Part()).has(row) for _, row in there)
    return Verdict(len(entries), hashed, len(absent), tuple(line for line in found if line))


def _problem(entry: tuple[str, Row], root: Path, digest: Digest, part: Part) -> str:
    """Describe what is wrong with the bytes of a row; an empty string if nothing is."""
    name, row = entry
    path = root / row.path
    if path.is_dir():
        return ""  # a series in the index; the manifest of the download names its files
    if not path.is_file():
        return f"{name}: {row.path} is missing"
    try:
        damaged = part.has(row) and digest(path, row) != row.sha256
    except (DataError, EOFError, ValueError):
        damaged = True
    return f"{name}: {row.path} is damaged" if damaged else ""


@dataclass(frozen=True)
class Loose:
    """A file that nothing names; `path` is relative to the store."""

    path: str
    num_bytes: int


def loose_files(root: Path, named: Collection[str], *, raw: bool = False) -> list[Loose]:
    """List the arrays that nothing names; with `raw`, raw files as well.

    Args:
        root: the store.
        named: paths relative to the store; what lies below one is named too.
        raw: also list raw data, but never the commit that a download was pinned to.
    """
    kept = frozenset(named)
    return [Loose(path, (root / path).stat().st_size) for path in _collectable(root, kept, raw)]


def remove(root: Path, loose: Iterable[Loose]) -> None:
    """Remove files from the store, unless somebody is making them right now."""
    for file in loose:
        if not is_being_made(root / file.path):
            (root / file.path).unlink(missing_ok=True)


def _collectable(root: Path, named: frozenset[str], raw: bool) -> Iterator[str]:
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        name = inside.as_posix()
        if path.is_symlink() or not path.is_file() or any(p.startswith(".") for p in inside.parts):
            continue
        is_raw = inside.parts[0] == _RAW
        if not (raw and name != _PIN if is_raw else path.suffix == _ARRAY):
            continue
        is_named = name in named or any(parent.as_posix() in named for parent in inside.parents)
        if not is_named and not is_being_made(path):
            yield name
