"""`uvlm store push` and `pull`: the files behind the manifests, in the remote that DVC uses.

    <remote>/files/md5/...                DVC's own: manifests, models, predictions
    <remote>/uvlm/<path>/<sha256>         ours: what a row of a manifest names, under its digest

DVC tracks a manifest and not the thousands of arrays that it names, so each of the two has its own
push and pull. A name holds the digest of the content and is never written twice: two computers
whose networks round differently keep both. Files that a hub can send again are left to the hub.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from uvlm.data.sets.raw import digest_of
from uvlm.environment import DOWNLOADS
from uvlm.errors import ConfigError, DataError, SetupError, first_line
from uvlm.files import filling_folder
from uvlm.store import CaseProgress, Row, read_manifest, workspaces

_FOLDER: Final = "uvlm"
_HUB: Final = "hub:"
_CLEAN: Final = "`uvlm store verify` lists all such files"


@dataclass(frozen=True)
class Remote:
    """A folder of one of DVC's remotes: on a disk, S3, SSH, or whatever DVC has a package for."""

    url: str
    folder: str
    fs: Any  # one of DVC's file systems

    def name(self, row: Row) -> str:
        """Name the file of a row."""
        return str(self.fs.join(self.folder, *row.path.split("/"), row.sha256))

    def names(self) -> frozenset[str]:
        """List every file, with one walk instead of a question for each."""
        with _blamed_on(self.url):
            return frozenset(map(str, self.fs.find(self.folder)))

    def send(self, path: Path, row: Row) -> None:
        """Copy a file there."""
        with _blamed_on(self.url):
            self.fs.put_file(str(path), self.name(row))

    def fetch(self, row: Row, path: Path) -> None:
        """Copy a file from there."""
        with _blamed_on(self.url):
            self.fs.get_file(self.name(row), str(path))


@contextmanager
def _blamed_on(url: str) -> Iterator[None]:
    """Turn what a remote raises into one line; each kind has errors of its own."""
    try:
        yield
    except Exception as error:
        fact = f"cannot be used ({type(error).__name__}: {first_line(error)})"
        raise SetupError(url, fact, "check address, network and credentials") from None


@dataclass(frozen=True)
class Moved:
    """What one push or pull did; `lost` is neither here nor there."""

    url: str
    files: int
    num_bytes: int
    there: int
    lost: tuple[Row, ...]


def open_remote(workspace: Path, name: str | None) -> Remote:
    """Open a remote of DVC; None takes the default one.

    Raises:
        ConfigError: there is no such remote, or the workspace is none of DVC's.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(workspace)) as repo:
            remote = repo.cloud.get_remote(name, "uvlm store")
            url = str(repo.config["remote"][remote.name].get("url", remote.path))
            return Remote(url, str(remote.fs.join(remote.path, _FOLDER)), remote.fs)
    except DvcException as error:  # among them a package that the kind of remote needs
        remedy = "see `dvc remote list`; `dvc remote add -d NAME URL` makes one"
        raise ConfigError("DVC", first_line(error).rstrip("."), remedy) from None


def named_rows(manifests: Iterable[Path]) -> list[Row]:
    """Read what manifests name, each file once, but for what a hub can send again.

    The index is left out: the manifest of the download names the same files.
    """
    found: dict[tuple[str, str], Row] = {}
    for manifest in manifests:
        for row in () if manifest.stem == "index" else read_manifest(manifest):
            if not (row.path.startswith("raw/") and row.source.startswith(_HUB)):
                found.setdefault((row.path, row.sha256), row)
    return list(found.values())


def push(
    root: Path,
    rows: Sequence[Row],
    remote: Remote,
    refused: Collection[str],
    progress: CaseProgress | None,
) -> Moved:
    """Copy to the remote what it has not.

    Args:
        root: the store.
        rows: what to copy.
        remote: where to.
        refused: paths whose digest cannot be checked, as of planted defects.
        progress: called as files are done.

    Raises:
        DataError: a file is damaged; what was copied before stays.
    """
    there = remote.names()
    wanted = [row for row in rows if remote.name(row) not in there]
    found = [row for row in wanted if (root / row.path).is_file()]
    lost = tuple(row for row in wanted if not (root / row.path).exists())

    def send(row: Row) -> int:
        path = root / row.path
        _check(path, row, refused, _CLEAN)
        remote.send(path, row)
        return path.stat().st_size

    with workspaces.used(root):
        sizes = _each(send, found, "push", progress)
    return Moved(remote.url, len(found), sum(sizes), len(rows) - len(wanted), lost)


def pull(
    root: Path,
    rows: Sequence[Row],
    remote: Remote,
    refused: Collection[str],
    progress: CaseProgress | None,
) -> Moved:
    """Copy from the remote what the store has not; a file appears in the store checked and whole.

    Args:
        root: the store.
        rows: what to copy.
        remote: where from.
        refused: paths whose digest cannot be checked, as of planted defects.
        progress: called as files are done.

    Raises:
        DataError: a file of the remote is not what its row says; what was copied before stays.
    """
    wanted = [row for row in rows if not (root / row.path).exists()]
    there = remote.names() if wanted else frozenset()
    found = [row for row in wanted if remote.name(row) in there]
    lost = tuple(row for row in wanted if remote.name(row) not in there)
    with workspaces.used(root), filling_folder(root / ".pulled") as passing:
        receive = partial(_receive, root, remote, refused, passing)
        sizes = _each(receive, found, "pull", progress)
    return Moved(remote.url, len(found), sum(sizes), len(rows) - len(wanted), lost)


def _receive(root: Path, remote: Remote, refused: Collection[str], passing: Path, row: Row) -> int:
    """Copy one file into the store; return its bytes."""
    target = root / row.path
    copied = passing / row.sha256 / target.name  # the ending says how it is hashed
    copied.parent.mkdir(exist_ok=True)
    remote.fetch(row, copied)
    _check(copied, row, refused, f"remove it from {remote.url}, and push it again")
    target.parent.mkdir(parents=True, exist_ok=True)
    size = copied.stat().st_size
    copied.replace(target)
    return size


def _check(path: Path, row: Row, refused: Collection[str], remedy: str) -> None:
    """Refuse a file that is not what its row says."""
    try:
        is_whole = digest_of(path, row, refused) == row.sha256
    except (DataError, EOFError, ValueError):
        is_whole = False
    if not is_whole:
        raise DataError(row.path, "is damaged", remedy)


def _each(
    work: Callable[[Row], int], rows: Sequence[Row], title: str, progress: CaseProgress | None
) -> list[int]:
    """Do several files at a time; the first error stops the rest."""
    sizes: list[int] = []
    with ThreadPoolExecutor(DOWNLOADS.read()) as pool:
        try:
            for size in pool.map(work, rows):
                sizes.append(size)
                if progress is not None:
                    progress(title, len(sizes), len(rows))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return sizes
