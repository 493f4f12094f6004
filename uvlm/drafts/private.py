"""A private folder for CTs that others send, and nothing of it left behind."""

from __future__ import annotations

import glob
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def private_folder(kind: str) -> Iterator[Path]:
    """Yield a folder that only this user can read, and remove it at the end.

    What a killed process of the same kind on this computer left is removed first.

    Args:
        kind: a word for what it is used by.
    """
    place, name = Path(tempfile.gettempdir()), f"uvlm-{kind}-{socket.gethostname()}-"
    for left in place.glob(f"{glob.escape(name)}*"):
        pid = left.name.removeprefix(name).partition("-")[0]
        if pid.isdecimal() and not _is_alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{name}{os.getpid()}-") as root:
        yield Path(root)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)  # it exists, but belongs to another user
    return True
