"""What `download` asks of a source: put files into the store, and name them in the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from uvlm.data.sets.hub import Hub, HubFile, Snapshot, pin
from uvlm.data.sets.selection import RECORD, Selection
from uvlm.files import file_sha256, key_of, store_root
from uvlm.store import CaseProgress, Row


class Source(Protocol):
    """One data set."""

    def fetch(self, manifest: Path, progress: CaseProgress | None = None) -> None:
        """Get what is missing and write the manifest, whose `case` is the path in the data set."""
        ...


def snapshot_of(hub: Hub, repo: str, revision: str, prefix: str) -> Snapshot:
    """Pin a repository to a commit and give its files a folder of the store.

    <store>/raw/<first 12 digits of the commit>/<prefix>/<path in the repository>
    """
    raw = store_root() / "raw"
    pinned = pin(hub, repo, revision, raw / "revisions.json")
    return Snapshot(hub, pinned, raw / pinned.commit[:12] / prefix)


def hub_row(snapshot: Snapshot, file: HubFile) -> Row:
    """Name a fetched file in the manifest."""
    path = snapshot.folder / file.path
    sha256 = file.sha256 or file_sha256(path)
    return row_of(snapshot, f"{snapshot.folder.name}/{file.path}", path, sha256)


def row_of(snapshot: Snapshot, case: str, path: Path, sha256: str) -> Row:
    """Name any file that came out of a commit."""
    repo = snapshot.repo
    inside = path.relative_to(store_root()).as_posix()
    key = key_of("download", repo.name, repo.commit)
    return Row(case, key, inside, sha256, f"hub:{repo.name}@{repo.commit}")


def local_row(case: str, path: Path, sha256: str, source: str) -> Row:
    """Name a file that was made or copied here."""
    inside = path.relative_to(store_root()).as_posix()
    return Row(case, key_of("download", source, sha256), inside, sha256, source)


def selection_row(selection: Selection) -> Row:
    """Write the record of a selection below the store and name it in the manifest."""
    path = store_root() / "raw" / "selections" / f"{selection.key}.json"
    selection.write(path)
    return local_row(RECORD, path, file_sha256(path), "params")
