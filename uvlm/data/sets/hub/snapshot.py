"""The wanted files of one commit, in a folder of the store that mirrors the repository."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from uvlm.data.sets.hub.client import Hub, Repo
from uvlm.data.sets.hub.fetch import Wanted, fetch, fetch_all
from uvlm.data.sets.hub.listing import HubFile, describe, forget, pin, those_there
from uvlm.errors import DataError
from uvlm.files import file_sha256, key_of, store_root
from uvlm.store import CaseProgress, Row


@dataclass(frozen=True)
class Snapshot:
    """A commit of a data set, and the folder for its files."""

    hub: Hub
    repo: Repo
    folder: Path

    @classmethod
    def of(cls, hub: Hub, name: str, revision: str, prefix: str) -> Self:
        """Pin a repository to a commit, with a folder of the store for its files.

        <store>/raw/<first 12 digits of the commit>/<prefix>/<path in the repository>
        """
        raw = store_root() / "raw"
        repo = pin(hub, name, revision, raw / "revisions.json")
        return cls(hub, repo, raw / repo.commit[:12] / prefix)

    def fetch(
        self,
        paths: Iterable[str],
        description: str,
        progress: CaseProgress | None = None,
        left: Collection[str] = (),
    ) -> dict[str, HubFile]:
        """Download exactly these files into the folder, verified, or raise.

        Args:
            paths: exact names; the repository is never listed.
            description: for `progress`.
            progress: called after every file.
            left: those that stay on the hub and are only looked up.
        """
        files = describe(self.hub, self.repo, paths, self.record, progress)
        # Small files have no sha256 in the listing: the manifest needs their bytes.
        fetched = {p: f for p, f in files.items() if p not in left or f.sha256 is None}
        wanted = [Wanted(file, self.folder / path) for path, file in fetched.items()]
        try:
            fetch_all(self.hub, self.repo, wanted, description, progress)
        except DataError:  # the listing itself may have been wrong: ask again next time
            forget(self.record, (w.file.path for w in wanted if not w.target.exists()))
            raise
        return files

    def rows(
        self,
        paths: Iterable[str],
        description: str,
        progress: CaseProgress | None = None,
        left: Collection[str] = (),
    ) -> list[Row]:
        """Download files as `fetch` does; returns their manifest rows."""
        files = self.fetch(paths, description, progress, left)
        return [self.row(path, file.sha256, size=file.size) for path, file in files.items()]

    def fetch_one(self, file: HubFile, target: Path) -> None:
        """Download one file to anywhere, verified, or raise."""
        fetch(self.hub, self.repo, Wanted(file, target))

    def sizes(self, paths: Iterable[str]) -> list[int]:
        """Ask how large files are, without fetching them."""
        return [file.size for file in describe(self.hub, self.repo, paths, self.record).values()]

    def those_there(self, paths: Iterable[str], progress: CaseProgress | None = None) -> list[str]:
        """Leave out the paths that this commit does not have."""
        return those_there(self.hub, self.repo, paths, self.record, progress)

    def row(self, path: str, sha256: str | None = None, **extra: int) -> Row:
        """Make the manifest row of a file of this commit."""
        place = self.folder / path
        inside = place.relative_to(store_root()).as_posix()
        key = key_of("download", self.repo.name, self.repo.commit)
        source = f"hub:{self.repo.name}@{self.repo.commit}"
        case = f"{self.folder.name}/{path}"
        return Row(case, key, inside, sha256 or file_sha256(place), source, extra)

    @property
    def record(self) -> Path:
        """Where the listing is kept."""
        return self.folder / ".listing.json"
