"""Downloads from the hub: resumed, verified against the listing, renamed.

    .train_1_a_1.nii.gz.part     grows, survives a kill, is continued by the next run
    train_1_a_1.nii.gz           exists only if its size and digest are as the hub published them

Only one process at a time writes a part; a second one waits and finds the file finished.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path

from uvlm.data.sets.hub.client import Hub, Repo, UnverifiedError, interrupted
from uvlm.data.sets.hub.listing import HubFile
from uvlm.environment import DOWNLOADS
from uvlm.errors import Interrupted, SetupError
from uvlm.store import CaseProgress


@dataclass(frozen=True)
class Wanted:
    """A file of the hub and where it belongs."""

    file: HubFile
    target: Path


def fetch_all(
    hub: Hub,
    repo: Repo,
    wanted: Sequence[Wanted],
    description: str,
    progress: CaseProgress | None = None,
) -> None:
    """Download all files, or raise: there is no partial success.

    The first failure stops the others; verified files stay, and the next run continues.

    Args:
        hub: the server; `$UVLM_DOWNLOADS` files are fetched at a time.
        repo: the commit of all files.
        wanted: the files; those already in place, with the right size, cost nothing.
        description: for `progress`.
        progress: called after every file.

    Raises:
        DataError: a file is not what the hub's listing says.
        SetupError: there is no access, or no network for longer than patience lasts.
    """
    missing = [item for item in wanted if not is_in_place(item)]
    _refuse_without_space(missing)
    done = len(wanted) - len(missing)
    lock = threading.Lock()

    def one(item: Wanted) -> None:
        nonlocal done
        fetch(hub, repo, item)
        with lock:
            done += 1
            if progress is not None:
                progress(description, done, len(wanted))

    with ThreadPoolExecutor(DOWNLOADS.read()) as pool:
        futures = [pool.submit(one, item) for item in missing]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            # Also after Ctrl-C: wakes the threads that sleep, ends the streams, drops the queue.
            hub.stop.set()
            pool.shutdown(cancel_futures=True)
            hub.stop.clear()
    _raise_the_cause(futures)


def is_in_place(item: Wanted) -> bool:
    """Whether the file is there; only verified bytes ever get this name."""
    try:
        return item.target.stat().st_size == item.file.size
    except FileNotFoundError:
        return False


def fetch(hub: Hub, repo: Repo, item: Wanted) -> None:
    """Download one file; the retries start over whenever bytes have arrived."""
    subject = f"{repo.name}/{item.file.path}"
    with _own_part(item.target) as part:
        if is_in_place(item):
            return
        waits, longest = iter(hub.patience.waits), _length(part)
        while True:
            try:
                _continue(hub, repo, item.file, part)
                _verify(part, item.file)
            except Exception as error:
                # Only a new longest length is progress: a part with wrong bytes starts from zero.
                if longest < _length(part):
                    waits, longest = iter(hub.patience.waits), _length(part)
                hub.wait(hub.pause_after(error, subject, next(waits, None)))
                continue
            # Onto the disk before the rename: the name promises verified bytes, also after a crash.
            os.fsync(part.fileno())
            _part_of(item.target).replace(item.target)
            return


def _continue(hub: Hub, repo: Repo, file: HubFile, part: BufferedRandom) -> None:
    """Append what the part is missing; never more than the listing says."""
    have = _length(part)
    if have > file.size:
        have = _restart(part)
    if have == file.size:
        return
    with hub.stream(repo, file.path, have) as response:
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise UnverifiedError("answered a web page instead of the file")
        # A server may ignore the range and send the file from its start.
        if have and not _continues_at(response.headers.get("Content-Range", ""), have):
            have = _restart(part)
            if response.status_code in (206, 416):
                raise UnverifiedError("answered another part of the file than was asked for")
        part.seek(have)
        for chunk in response.iter_raw():  # as they arrive, so that a break loses nothing
            if hub.stop.is_set():
                raise interrupted(file.path)
            have += len(chunk)
            if have > file.size:
                _restart(part)
                raise UnverifiedError(f"sent more than the {file.size} bytes of the listing")
            part.write(chunk)
    part.flush()


def _verify(part: BufferedRandom, file: HubFile) -> None:
    """Compare size and digest with the listing; empty a part with wrong bytes."""
    length = _length(part)
    if length < file.size:
        raise UnverifiedError(f"sent {length} of {file.size} bytes")
    part.seek(0)
    name, expected, digest = "sha256", file.sha256, hashlib.sha256()
    if expected is None:  # not in LFS: git's own digest, of a header and the content
        name, expected = "git sha1", file.blob_id
        digest = hashlib.sha1(f"blob {length}\0".encode(), usedforsecurity=False)
    found = hashlib.file_digest(part, lambda: digest).hexdigest()
    if found != expected:
        _restart(part)
        raise UnverifiedError(f"its {name} is {found[:12]}, the listing says {expected[:12]}")


@contextmanager
def _own_part(target: Path) -> Iterator[BufferedRandom]:
    """Open the part of a file for this process alone; an empty part does not stay behind."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path = _part_of(target)
    while True:
        part = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        fcntl.flock(part, fcntl.LOCK_EX)
        if _is_same_file(part, path):
            break
        # While this process waited for the lock, another one renamed the part or removed it.
        part.close()
    with part:
        try:
            yield part
        finally:
            if _is_same_file(part, path) and not _length(part):
                path.unlink()


def _is_same_file(part: BufferedRandom, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(part.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _part_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _length(part: BufferedRandom) -> int:
    part.flush()
    return os.fstat(part.fileno()).st_size


def _restart(part: BufferedRandom) -> int:
    part.seek(0)
    part.truncate()
    return 0


def _continues_at(content_range: str, offset: int) -> bool:
    return content_range.startswith(f"bytes {offset}-")


def _refuse_without_space(missing: Sequence[Wanted]) -> None:
    """Stop before the first byte if the disk cannot hold them all."""
    if not missing:
        return
    needed = sum(item.file.size for item in missing)
    folder = next(path for path in missing[0].target.parents if path.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        fact = f"{needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
        remedy = "free space, set UVLM_DATA_ROOT to a larger disk, or choose fewer patients"
        raise SetupError(folder, fact, remedy)


def _raise_the_cause(futures: Sequence[Future[None]]) -> None:
    """Raise the first failure that is not just the echo of another one."""
    errors = [e for f in futures if not f.cancelled() and (e := f.exception()) is not None]
    if errors:
        raise min(errors, key=lambda error: isinstance(error, Interrupted))
