"""Who uses a store: each workspace registers, and a running stage holds a lock.

<store>/workspaces/<key>.json    {"computer": ..., "folder": ...}
<store>/workspaces/.in_use       locked: shared by stages that run, alone by whoever collects

The folder of a workspace that has its store inside is written relative to the store: the two are
moved, renamed, copied and mounted together.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from uvlm.errors import DataError, SetupError
from uvlm.files import key_of, write_json_atomic

_FOLDER: Final = "workspaces"


@dataclass(frozen=True)
class Workspace:
    """A folder with a dvc.yaml, on one computer, or on any if it has the store inside."""

    computer: str
    folder: str  # absolute, or relative to the store


def register(root: Path, folder: Path) -> None:
    """Note that a workspace uses the store; a store that cannot be written is left as it is."""
    workspace, record = _own(root, folder)
    if record.exists():
        return
    try:
        write_json_atomic(record, asdict(workspace))
        if not workspace.computer:  # what an earlier release noted would not survive a move
            _record(root, _absolute(folder)).unlink(missing_ok=True)
    except OSError:  # of somebody else, who alone can collect there
        return


def forget(root: Path, folder: Path) -> None:
    """Note that a workspace is gone for good, so that nobody looks for what it needs."""
    for workspace in (_own(root, folder)[0], _absolute(folder)):
        _record(root, workspace).unlink(missing_ok=True)


def registered(root: Path) -> list[Path]:
    """List the workspaces of a store.

    Raises:
        DataError: one cannot be read from here, so nobody knows what it needs.
    """
    found = []
    for record in sorted((root / _FOLDER).glob("*.json")):
        try:
            workspace = Workspace(**json.loads(record.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            fact = f"is not the record of a workspace ({error!r})"
            raise DataError(record, fact, "correct it, or remove it") from None
        folder = Path(os.path.normpath(root.resolve() / workspace.folder))
        if not folder.is_dir():
            fact = f"uses this store and is not there (registered on {workspace.computer})"
            remedy = f"make it readable here, or remove {record} if it is gone for good"
            raise DataError(folder, fact, remedy)
        found.append(folder)
    return found


def _own(root: Path, folder: Path) -> tuple[Workspace, Path]:
    """Describe a workspace of this computer, and name its record."""
    workspace = _absolute(folder)
    if root.resolve().is_relative_to(folder.resolve()):
        workspace = Workspace("", os.path.relpath(folder.resolve(), root.resolve()))
    return workspace, _record(root, workspace)


def _absolute(folder: Path) -> Workspace:
    return Workspace(socket.gethostname(), str(folder.resolve()))


def _record(root: Path, workspace: Workspace) -> Path:
    return root / _FOLDER / f"{key_of(asdict(workspace))}.json"


@contextmanager
def used(root: Path) -> Iterator[None]:
    """Keep collectors away while a stage makes what no manifest names yet."""
    with _lock(root, alone=False):
        yield


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Keep stages from starting.

    Raises:
        SetupError: one is running.
    """
    with _lock(root, alone=True):
        yield


@contextmanager
def _lock(root: Path, *, alone: bool) -> Iterator[None]:
    import fcntl

    path = root / _FOLDER / ".in_use"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:  # a store that cannot be written cannot be collected either
        yield
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
    except BlockingIOError:
        os.close(handle)
        fact = "is in use by a stage that runs"
        raise SetupError(root, fact, "run the same command when it has ended") from None
    try:
        yield
    finally:
        os.close(handle)
