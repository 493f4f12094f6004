"""Arrays that are made once, however many processes share the store.

A process that finds an array missing takes the lock of its file, looks again, and only then makes
it. The system releases a lock when its holder dies, so a killed process blocks nobody; what it
leaves behind (a hidden temporary file, a hidden lock) goes when the array is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from uvlm.arrays import Array
from uvlm.store.arrays import read_note, save_array


def find_or_make(
    path: Path, make: Callable[[], tuple[Array, Mapping[str, Any]]]
) -> tuple[dict[str, Any], bool]:
    """Return the note of a stored array, making the array first if it is missing.

    Args:
        path: the .b2nd file.
        make: returns the array and its note; its errors pass through.

    Returns:
        The note, with the array's `sha256`, and whether the array was found.
    """
    if (note := read_note(path)) is not None:
        return note, True
    with _locked(path):
        if (note := read_note(path)) is not None:
            return note, True
        array, told = make()
        return {**told, "sha256": save_array(path, array, told)}, False


def is_being_made(path: Path) -> bool:
    """Whether a living process holds the lock of a file in the store."""
    import fcntl

    try:
        with _lock_of(path).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file in the store; wait for whoever holds it."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock_of(path)
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if _is_still(lock, handle):
            break
        # Its last holder removed the file while this process waited: the lock that is held now
        # belongs to no name, and another process may hold a new file of that name.
        os.close(handle)
    try:
        yield
    finally:  # remove before release: whoever waits then sees that its file is gone
        lock.unlink(missing_ok=True)
        os.close(handle)


def _is_still(path: Path, handle: int) -> bool:
    """Whether a path still names the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
