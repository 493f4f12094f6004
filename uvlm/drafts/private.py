"""A private folder for CTs that others send, and nothing of it left behind."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from uvlm.files import remove_left


@contextmanager
def private_folder(kind: str) -> Iterator[Path]:
    """Yield a folder that only this user can read, and remove it at the end.

    What a killed process of the same kind on this computer left is removed first.

    Args:
        kind: a word for what it is used by.
    """
    place, name = Path(tempfile.gettempdir()), f"uvlm-{kind}-{socket.gethostname()}-"
    with suppress(OSError):  # in a folder of everybody's, others may have files of such names
        remove_left(place, name)
    with tempfile.TemporaryDirectory(prefix=f"{name}{os.getpid()}-") as root:
        yield Path(root)
