"""The wanted files of one commit, in a folder of the store that mirrors the repository."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from uvlm.data.sets.hub.client import Hub, Repo
from uvlm.data.sets.hub.fetch import Wanted, fetch_all
from uvlm.data.sets.hub.listing import HubFile, describe, forget
from uvlm.errors import DataError
from uvlm.store import CaseProgress


@dataclass(frozen=True)
class Snapshot:
    """A commit of a data set and where its files belong."""

    hub: Hub
    repo: Repo
    folder: Path

    def fetch(
        self, paths: Iterable[str], description: str, progress: CaseProgress | None = None
    ) -> dict[str, HubFile]:
        """Bring exactly these files into the folder, verified, or raise.

        Args:
            paths: exact names in the repository; it is never listed.
            description: for `progress`.
            progress: told after every file.
        """
        files = describe(self.hub, self.repo, paths, self._record, progress)
        wanted = [Wanted(file, self.folder / path) for path, file in files.items()]
        try:
            fetch_all(self.hub, self.repo, wanted, description, progress)
        except DataError:  # perhaps it was the listing that was wrong: ask again the next time
            forget(self._record, (w.file.path for w in wanted if not w.target.exists()))
            raise
        return files

    @property
    def _record(self) -> Path:
        return self.folder / ".listing.json"
