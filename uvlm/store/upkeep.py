"""Store maintenance: find what is missing, damaged or no longer needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from uvlm.errors import DataError
from uvlm.store.arrays import array_sha256, load_array
from uvlm.store.manifest import Row, read_manifest

Digest = Callable[[Path], str]


def verify(
    root: Path, manifests: Iterable[Path], digests: Mapping[str, Digest] | None = None
) -> list[str]:
    """List what is missing from the store or differs from its manifest, one line each.

    Args:
        root: the store.
        manifests: all manifests to check it against.
        digests: how to hash files with suffixes other than .b2nd; the rest need only exist.
    """
    by_suffix: dict[str, Digest] = {".b2nd": lambda path: array_sha256(load_array(path))}
    by_suffix |= digests or {}
    problems = []
    for manifest in manifests:
        for row in read_manifest(manifest):
            if problem := _problem(root / row.path, row, by_suffix):
                problems.append(f"{manifest.stem}: {row.case}: {row.path} {problem}")
    return problems


def gc(root: Path, manifests: Iterable[Path], *, delete: bool = False) -> list[str]:
    """List files of the store that no manifest names, relative to it; `delete` removes them."""
    named = {row.path for manifest in manifests for row in read_manifest(manifest)}
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    loose = sorted(files - named)
    if delete:
        for path in loose:
            (root / path).unlink()
    return loose


def _problem(path: Path, row: Row, digests: Mapping[str, Digest]) -> str | None:
    """Describe what is wrong with the bytes of a row, if anything."""
    if not path.is_file():
        return "is missing"
    digest = next((digests[end] for end in digests if path.name.endswith(end)), None)
    try:
        damaged = digest is not None and digest(path) != row.sha256
    except DataError:
        damaged = True
    return "is damaged" if damaged else None
