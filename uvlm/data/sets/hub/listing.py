"""Size and digest of every wanted file, as the hub publishes them for one commit.

A commit never changes, so the hub's answers about it are kept beside the files: a second run asks
nothing, and works offline once everything is there.
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
    """One file of a commit; large ones (LFS) have a sha256, small ones only git's own sha1."""

    path: str
    size: int
    blob_id: str
    sha256: str | None


def pin(hub: Hub, name: str, revision: str, record: Path) -> Repo:
    """Resolve a revision to a commit; a branch or tag stays at the commit of its first use.

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
    hub: Hub, repo: Repo, paths: Iterable[str], record: Path, progress: CaseProgress | None = None
) -> dict[str, HubFile]:
    """Look up every path of a commit.

    Args:
        hub: where to ask what `record` does not say.
        repo: the commit.
        paths: exact names of files.
        record: what is already known about this commit.
        progress: called after every request.

    Raises:
        DataError: paths are not in the repository; all are counted, the first few named.
    """
    wanted = sorted(set(paths))
    known = _look_up(hub, repo, wanted, record, progress)
    if missing := [path for path in wanted if path not in known]:
        named = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        fact = f"{len(missing)} wanted files are not on the hub: {named}"
        remedy = "list them in download.*.exclude to go on without them"
        raise DataError(f"{repo.name}@{repo.commit[:12]}", fact, remedy)
    return {path: known[path] for path in wanted}


def those_there(
    hub: Hub, repo: Repo, paths: Iterable[str], record: Path, progress: CaseProgress | None = None
) -> list[str]:
    """Leave out the paths that a commit does not have.

    Their absence is remembered beside the record, so that a second run asks nothing here either.
    """
    absences = record.with_name(".absent.json")
    absent = _read_json(absences)
    asked = sorted(set(paths) - absent.keys())
    known = _look_up(hub, repo, asked, record, progress)
    if missing := [path for path in asked if path not in known]:
        write_json_atomic(absences, dict(sorted((absent | dict.fromkeys(missing, True)).items())))
    return [path for path in asked if path in known]


def _look_up(
    hub: Hub, repo: Repo, wanted: Sequence[str], record: Path, progress: CaseProgress | None
) -> dict[str, HubFile]:
    """Ask for what the record does not say, and record the answers."""
    known = read_listing(record)
    unknown = [path for path in wanted if path not in known]
    try:
        for start in range(0, len(unknown), _PATHS_PER_REQUEST):
            batch = unknown[start : start + _PATHS_PER_REQUEST]
            entries = (e for e in hub.paths_info(repo, batch) if e.get("type") == "file")
            known |= {file.path: file for file in (_parse(repo, entry) for entry in entries)}
            if progress is not None:
                progress("asking for sizes and digests", start + len(batch), len(unknown))
    finally:  # keep what has been answered when a later request fails
        if unknown:
            _write(record, known)
    return known


def read_listing(record: Path) -> dict[str, HubFile]:
    """Read what is known about a commit, by path; nothing if nobody has asked yet."""
    return {path: HubFile(**values) for path, values in _read_json(record).items()}


def forget(record: Path, paths: Iterable[str]) -> None:
    """Drop what is known about these files, so that the hub is asked again."""
    gone = set(paths)
    known = _read_json(record)
    if gone & known.keys():
        _write(record, {path: HubFile(**v) for path, v in known.items() if path not in gone})


def _parse(repo: Repo, entry: dict[str, Any]) -> HubFile:
    """Check one entry of the hub's answer."""
    lfs = entry.get("lfs") or {}
    path, size = str(entry.get("path")), lfs.get("size", entry.get("size"))
    blob_id, sha256 = str(entry.get("oid")), lfs.get("oid")
    is_digest = sha256 is None or _SHA256.fullmatch(str(sha256))
    if not isinstance(size, int) or not _SHA1.fullmatch(blob_id) or not is_digest:
        raise DataError(f"{repo.name}/{path}", "the hub's listing of it is damaged", "try again")
    return HubFile(path, size, blob_id, sha256)


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _write(record: Path, known: dict[str, HubFile]) -> None:
    write_json_atomic(record, {path: asdict(file) for path, file in sorted(known.items())})
