"""Size and digest of every wanted file, as the hub publishes them for one commit.

A commit never changes, so what the hub has said about it is kept beside the files: a second run
asks nothing, and works without a network once everything is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from uvlm.data.sets.hub.client import Hub, Repo
from uvlm.errors import DataError
from uvlm.files import write_json_atomic
from uvlm.store import CaseProgress

_PATHS_PER_REQUEST: Final = 100
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_SHA1: Final = _COMMIT


@dataclass(frozen=True)
class HubFile:
    """One file of a commit: large ones (LFS) have a sha256, small ones git's own sha1."""

    path: str
    size: int
    blob_id: str
    sha256: str | None


def pin(hub: Hub, name: str, revision: str, record: Path) -> Repo:
    """Turn a revision into a commit; a branch or tag keeps the commit it had the first time.

    Args:
        hub: where to ask.
        name: of the repository.
        revision: a commit of 40 hex digits, a branch or a tag.
        record: where the first answer is kept; remove it to follow the branch.
    """
    if _COMMIT.fullmatch(revision):
        return Repo(name, revision)
    known = _read_json(record)
    key = f"{name}@{revision}"
    if key not in known:
        commit = hub.commit_of(name, revision)
        if not _COMMIT.fullmatch(commit):
            raise DataError(name, f"the hub names the commit {commit!r}", "try again later")
        known |= {key: commit}
        write_json_atomic(record, dict(sorted(known.items())))
    return Repo(name, known[key])


def describe(
    hub: Hub,
    repo: Repo,
    paths: Iterable[str],
    record: Path,
    progress: CaseProgress | None = None,
) -> dict[str, HubFile]:
    """Look up every path of a commit.

    Args:
        hub: where to ask what `record` does not say.
        repo: the commit.
        paths: exact names of files.
        record: what is known about this commit already.
        progress: told after every request.

    Raises:
        DataError: paths are not in the repository; all are counted, the first ones named.
    """
    wanted = sorted(set(paths))
    known = {path: HubFile(**values) for path, values in _read_json(record).items()}
    unknown = [path for path in wanted if path not in known]
    try:
        for start in range(0, len(unknown), _PATHS_PER_REQUEST):
            batch = unknown[start : start + _PATHS_PER_REQUEST]
            known |= {file.path: file for file in _ask(hub, repo, batch)}
            if progress is not None:
                progress("asking for sizes and digests", start + len(batch), len(unknown))
    finally:
        if unknown:
            _write(record, known)
    _refuse_missing(repo, [path for path in wanted if path not in known])
    return {path: known[path] for path in wanted}


def forget(record: Path, paths: Iterable[str]) -> None:
    """Drop what is known about files that did not match it: the hub is asked again."""
    gone = set(paths)
    known = _read_json(record)
    if gone & known.keys():
        _write(record, {path: HubFile(**v) for path, v in known.items() if path not in gone})


def _ask(hub: Hub, repo: Repo, paths: Sequence[str]) -> list[HubFile]:
    entries = hub.paths_info(repo, list(paths))
    return [_parse(repo, entry) for entry in entries if entry.get("type") == "file"]


def _parse(repo: Repo, entry: dict[str, Any]) -> HubFile:
    """Check one entry of the hub's answer."""
    lfs = entry.get("lfs") or {}
    path, size = str(entry.get("path")), lfs.get("size", entry.get("size"))
    blob_id, sha256 = str(entry.get("oid")), lfs.get("oid")
    is_digest = sha256 is None or _SHA256.fullmatch(str(sha256))
    if not isinstance(size, int) or not _SHA1.fullmatch(blob_id) or not is_digest:
        raise DataError(f"{repo.name}/{path}", "the hub's listing of it is damaged", "try again")
    return HubFile(path, size, blob_id, sha256)


def _refuse_missing(repo: Repo, missing: Sequence[str]) -> None:
    if missing:
        named = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DataError(
            f"{repo.name}@{repo.commit[:12]}",
            f"{len(missing)} wanted files are not on the hub: {named}",
            "name them in download.*.exclude to go on without them",
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return document


def _write(record: Path, known: dict[str, HubFile]) -> None:
    write_json_atomic(record, {path: asdict(file) for path, file in sorted(known.items())})
