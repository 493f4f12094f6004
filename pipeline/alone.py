"""One process at a time in a folder: of two that would write the same, the second is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uvlm.errors import SetupError


@contextmanager
def alone(folder: Path, fact: str, remedy: str) -> Iterator[None]:
    """Hold the lock of a folder, which is made if need be; it is free again when a process dies.

    Raises:
        SetupError: another process holds it; `fact` and `remedy` say what that means.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise SetupError(folder, fact, remedy) from None
    try:
        yield
    finally:
        lock.release()
