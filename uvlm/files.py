"""Files and folders that are written whole or not at all, and read or refused; digests and keys.

    .name.<host>.<pid>.<random>    being filled: hidden, in the same folder, so on the same disk
    name                           always a whole file or folder

An exception removes whatever was begun. What a killed process leaves beside a file or folder is
removed by the next write of that file or folder.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import IO, Any, Final

from uvlm import environment
from uvlm.errors import DataError

_CHUNK: Final = 1 << 20


def store_root() -> Path:
    """Return `$UVLM_DATA_ROOT`, else data/store in the project."""
    return environment.DATA_ROOT.read() or environment.project_root() / "data" / "store"


@contextmanager
def filling_file(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """Yield a stream to fill; if no exception ends the block, the result replaces `path`.

    Args:
        path: the file; its folder is made.
        durable: also wait for the disk; unnecessary for bytes that a stage can make again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left(path.parent, _prefix(path))
    unfinished = _beside(path)
    with _errors_name(path, unfinished):
        try:
            with unfinished.open("xb") as file:
                yield file
                if durable:
                    file.flush()
                    os.fsync(file.fileno())  # else a power cut may leave a name without content
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def filling_folder(folder: Path, *, keep_others: bool = False) -> Iterator[Path]:
    """Yield an empty folder to fill; if no exception ends the block, it replaces `folder`.

    Args:
        folder: its parent is made.
        keep_others: keep files of other names in `folder`; the new ones move in one by one.
    """
    place = _place(folder, keep_others)
    remove_left(place.parent, _prefix(place))
    unfinished = _beside(place)
    with _errors_name(folder, unfinished):
        try:
            unfinished.mkdir(parents=True)
            yield unfinished
            _open_to_readers(unfinished)
            if keep_others:
                _move_into(folder, unfinished)
            else:
                _take_the_place_of(folder, unfinished)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def try_filling(folder: Path) -> None:
    """Do what `filling_folder`, with others kept, begins with, and undo it; raise its OSError."""
    unfinished = _beside(_place(folder, keep_others=True))
    existing = next(parent for parent in unfinished.parents if os.path.lexists(parent))
    attempt = existing / unfinished.name
    attempt.mkdir()
    attempt.rmdir()


def _place(folder: Path, keep_others: bool) -> Path:
    """Name what to fill something beside: of a folder that stays, something in it."""
    return folder / folder.name if keep_others and folder.is_dir() else folder


def write_bytes_atomic(path: Path, payload: bytes, *, durable: bool = True) -> None:
    """Write a whole file or nothing; see `filling_file`."""
    with filling_file(path, durable=durable) as file:
        file.write(payload)


def write_text_atomic(path: Path, text: str) -> None:
    """Write UTF-8 text with `write_bytes_atomic`."""
    write_bytes_atomic(path, text.encode("utf-8"))


def write_json_atomic(path: Path, document: object, *, sort_keys: bool = False) -> None:
    """Write indented JSON; keys stay in their order unless `sort_keys`."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, sort_keys=sort_keys)
    write_text_atomic(path, text + "\n")


def copy_stream(source: IO[bytes], target: IO[bytes]) -> str:
    """Copy the rest of a stream; return its sha256."""
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def read_json(path: Path, remedy: str = "") -> dict[str, Any]:
    """Read a JSON object, or raise one DataError that says what is wrong with the file."""
    with reading(path):
        if not path.is_file():
            raise DataError(path, "no such file", remedy)
        payload = path.read_bytes()
    try:
        document = json.loads(payload.decode("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(path, f"not readable as JSON ({error})", remedy) from None
    if not isinstance(document, dict):
        raise DataError(path, "not a JSON object", remedy)
    return document


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into one line about `path`."""
    try:
        yield
    except OSError as error:
        fact = f"cannot be read ({error.strerror})"
        raise DataError(path, fact, "check the path and its permissions") from None


def file_sha256(path: Path) -> str:
    """Hash the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(folder: Path, names: Iterable[PurePath | str]) -> str:
    """Hash the names and contents of files in a folder, in the given order."""
    whole = hashlib.sha256()
    for name in names:
        whole.update(f"{PurePath(name).as_posix()} {file_sha256(folder / name)}\n".encode())
    return whole.hexdigest()


def key_of(*parts: object) -> str:
    """Make a key of 16 hex digits from JSON values."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def _move_into(folder: Path, unfinished: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(unfinished.iterdir()):
        file.replace(folder / file.name)


def _take_the_place_of(folder: Path, unfinished: Path) -> None:
    retired = _beside(folder)
    if folder.exists():  # a folder cannot be renamed over one that holds something
        folder.rename(retired)
    unfinished.rename(folder)
    shutil.rmtree(retired, ignore_errors=True)


@contextmanager
def _errors_name(path: Path, unfinished: Path) -> Iterator[None]:
    """Let an error name what the user asked for, not the hidden name that it was refused under."""
    try:
        yield
    except OSError as error:
        hidden, name = str(unfinished), error.filename
        error.filename = name.replace(hidden, str(path)) if isinstance(name, str) else str(path)
        raise


def _beside(path: Path) -> Path:
    """Name what is not whole yet; no two writers share a name, whatever their thread or machine."""
    return path.parent / f"{_prefix(path)}{os.getpid()}.{uuid.uuid4().hex[:8]}"


def _prefix(path: Path) -> str:
    return f".{path.name}.{socket.gethostname()}."


def remove_left(folder: Path, prefix: str) -> None:
    """Remove what killed processes left: names of `prefix`, a pid of this machine, and more."""
    for left in folder.glob(f"{glob.escape(prefix)}*"):
        pid = re.match(r"\d+(?=[.-])", left.name.removeprefix(prefix))
        if pid is None or _is_alive(int(pid[0])):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)  # it exists, but belongs to another user
    return True


def _open_to_readers(folder: Path) -> None:
    """Give every file the mode that the umask gave the folder; safetensors writes 0600."""
    mode = folder.stat().st_mode & 0o666
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(mode)
