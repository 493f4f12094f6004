"""Received files, study by study, until nothing more of a study comes.

    <root>/<digest of the study>/<digest of the instance>.dcm

Names are digests, so no UID of a sender can name a path. Everything has a limit.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Final

MAX_STUDIES: Final = 16  # that wait or arrive
MAX_FILES: Final = 8000  # of a study
MAX_BYTES: Final = 8 << 30  # of a study


@dataclass
class _Study:
    folder: Path
    last: float
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass
class Inbox:
    """Files under `root`; `clock` counts seconds."""

    root: Path
    clock: Callable[[], float] = time.monotonic
    _studies: dict[str, _Study] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _count: int = 0

    def keep(self, study: str, instance: str, payload: bytes) -> bool:
        """Keep one file; an instance that comes twice is kept once.

        Returns:
            Whether there was room for it.
        """
        with self._lock:
            found = self._studies.get(study)
            if found is None:
                if len(self._studies) >= MAX_STUDIES:
                    return False
                found = self._open(study)
            name = f"{_digest(instance)}.dcm"
            sizes = found.sizes | {name: len(payload)}
            if len(sizes) > MAX_FILES or sum(sizes.values()) > MAX_BYTES:
                return False
            (found.folder / name).write_bytes(payload)
            found.sizes[name] = len(payload)
            found.last = self.clock()
            return True

    def take(self, quiet_s: float) -> Path | None:
        """Hand over the folder of a study that has been quiet so long; who takes it removes it."""
        with self._lock:
            now = self.clock()
            for study, found in self._studies.items():
                if now - found.last >= quiet_s:
                    del self._studies[study]
                    return found.folder
        return None

    def _open(self, study: str) -> _Study:
        self._count += 1  # a study that is sent again while it is worked on has another folder
        folder = self.root / f"{_digest(study)}-{self._count}"
        folder.mkdir(parents=True)
        self._studies[study] = _Study(folder, self.clock())
        return self._studies[study]


@contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a folder that only this user can read, and remove it at the end.

    What a killed node on this computer left is removed first.
    """
    place, name = Path(tempfile.gettempdir()), f"uvlm-node-{socket.gethostname()}-"
    for left in place.glob(f"{glob.escape(name)}*"):
        pid = left.name.removeprefix(name).partition("-")[0]
        if pid.isdecimal() and not _is_alive(int(pid)):
            remove(left)
    with tempfile.TemporaryDirectory(prefix=f"{name}{os.getpid()}-") as root:
        yield Path(root)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)  # it exists, but belongs to another user
    return True


def remove(folder: Path) -> None:
    """Remove a study."""
    shutil.rmtree(folder, ignore_errors=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]
