"""Bytes of a file, whole or not at all.

A compressed stream is decompressed once, into memory of the declared size, and is accepted only if
its checksum, its length and its end are right and nothing follows. No file but the one named is
ever opened.
"""

from __future__ import annotations

import bz2
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from isal import igzip_lib

from uvlm.data.ct.formats.stored import AGAIN, refuse_size
from uvlm.data.ct.volume import ReadError

_GZIP_MAGIC: Final = b"\x1f\x8b"
_PIECE: Final = 2**20
_MOST_AT_ONCE: Final = 2**23
_MAX_RATIO: Final = {"gzip": 1032, "zlib": 1032, "bzip2": 50_000}  # no stream expands further
_IsalError: Any = igzip_lib.IsalError  # typed as an instance by its stub
_STREAMS: Final[dict[str, Callable[[], Any]]] = {
    "gzip": partial(igzip_lib.IgzipDecompressor, flag=igzip_lib.DECOMP_GZIP),
    "zlib": partial(igzip_lib.IgzipDecompressor, flag=igzip_lib.DECOMP_ZLIB),
    "bzip2": bz2.BZ2Decompressor,
}
_FOREIGN: Final = (
    (b"version https://git-lfs", "is a git-lfs pointer, not the file", "fetch it with `git lfs`"),
    (b"<", "is a web page or XML, not an image", "download it again"),
    (b"PK", "is a zip archive", "unpack it"),
)
# Group 2 or 8 in little endian, a low element of it, then its VR or the length of a short value.
_BARE_DICOM: Final = re.compile(rb"[\x02\x08]\0[\0-\x20]\0(?:[A-Z]{2}|.\0\0\0)", re.DOTALL)
DICOM_START: Final = 132  # a preamble and `DICM`
Kind = Literal["gzip", "zlib", "bzip2"]


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file that may be an image; one that is plainly something else is called by name."""
    try:
        with path.open("rb") as file:
            start = file.read(32)
            if not start:
                raise ReadError(path, "is empty", AGAIN, reason="empty_file")
            for magic, fact, remedy in _FOREIGN:
                if start.startswith(magic):
                    raise ReadError(path, fact, remedy, reason="not_an_image")
            file.seek(0)
            yield file
    except (FileNotFoundError, NotADirectoryError):
        raise ReadError(path, "no such file", "check the path", reason="missing_file") from None
    except OSError as error:
        fact = f"cannot be read ({error.strerror})"
        raise ReadError(path, fact, "check its permissions", reason="unreadable") from None


def starts_dicom(start: bytes) -> bool:
    """Whether a file that begins so is DICOM, with its preamble or without."""
    return start[DICOM_START - 4 : DICOM_START] == b"DICM" or starts_bare_dicom(start)


def starts_bare_dicom(start: bytes) -> bool:
    """Whether these are the first bytes of a DICOM dataset without the preamble of a file."""
    return bool(_BARE_DICOM.match(start))


def peek(file: BinaryIO, size: int, path: Path) -> tuple[bytes, bool]:
    """Read the first bytes, decompressed if it is gzip, and whether it is; go back to the start."""
    start = file.read(_PIECE)
    file.seek(0)
    if not start.startswith(_GZIP_MAGIC):
        return start[:size], False
    try:
        member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        inflated: bytes = member.decompress(start, size)
    except _IsalError as error:
        raise _stream_error(path, "gzip", "damaged", f"is damaged ({error})") from None
    if len(inflated) < size and not member.eof:
        raise _stream_error(path, "gzip", "truncated", "is cut off inside the image header")
    return inflated, True


def read_exactly(file: BinaryIO, size: int, path: Path) -> bytearray:
    """Read the rest of a file, which must have `size` bytes."""
    real = rest_of(file)
    if real != size:
        refuse_size(path, size, f"{real} bytes")
    payload = bytearray(size)
    if file.readinto(payload) != size:  # type: ignore[attr-defined]
        refuse_size(path, size, "fewer while it is read")
    return payload


def inflate(file: BinaryIO, size: int, path: Path, kind: Kind = "gzip") -> bytearray:
    """Decompress the rest of a file, which must hold exactly `size` bytes."""
    _refuse_expansion(file, size, path, kind)
    payload = bytearray(size)
    filled = 0
    for part in _exactly(file, size, path, kind):
        payload[filled : filled + len(part)] = part
        filled += len(part)
    return payload


def pieces(file: BinaryIO, size: int, path: Path, is_gzip: bool) -> Iterator[bytes]:
    """Read the rest of a file piece by piece; only after the last one is all of it verified."""
    if is_gzip:
        _refuse_expansion(file, size, path, "gzip")
        yield from _exactly(file, size, path, "gzip")
        return
    if (real := rest_of(file)) != size:
        refuse_size(path, size, f"{real} bytes")
    while piece := file.read(_PIECE):
        yield piece


def _refuse_expansion(file: BinaryIO, size: int, path: Path, kind: Kind) -> None:
    """Refuse an impossible size before the memory for it is asked for."""
    compressed = rest_of(file)
    if size > _MAX_RATIO[kind] * compressed:
        refuse_size(path, size, f"{compressed} compressed bytes")


def _exactly(file: BinaryIO, size: int, path: Path, kind: Kind) -> Iterator[bytes]:
    """Decompress the rest of a file, which must hold exactly `size` bytes."""
    filled = 0
    for part in _inflated(file, size, path, kind):
        filled += len(part)
        if filled > size:
            fact = f"the {kind} stream holds more than the declared {size} bytes"
            raise ReadError(path, fact, AGAIN, reason="size_mismatch")
        yield part
    if filled != size:
        refuse_size(path, size, f"{filled} bytes")


def rest_of(file: BinaryIO) -> int:
    """How many bytes lie between the position and the end of a file."""
    return os.fstat(file.fileno()).st_size - file.tell()


def _inflated(file: BinaryIO, size: int, path: Path, kind: Kind) -> Iterator[bytes]:
    """Decompress piece by piece, at most one byte past `size`: enough to see that it goes on.

    A gzip file may have several members; igzip checks the checksum and the length of each one, bz2
    a checksum of every block and of all of them.
    """
    pending, done = file.read(_PIECE), 0
    while pending:
        member = _STREAMS[kind]()
        while not member.eof:
            if not pending and member.needs_input:
                fact = f"is cut off after {done} of {size} bytes"
                raise _stream_error(path, kind, "truncated", fact)
            try:
                # A piece of a mask that is nearly empty expands a thousand times.
                part = member.decompress(pending, min(_MOST_AT_ONCE, size + 1 - done))
            except (_IsalError, OSError) as error:  # the second is bzip2's
                raise _stream_error(path, kind, "damaged", f"is damaged ({error})") from None
            pending = file.read(_PIECE) if member.needs_input and not member.eof else b""
            done += len(part)
            yield part
        pending = member.unused_data
        if len(pending) < len(_GZIP_MAGIC):  # the next member may begin in the next piece
            pending += file.read(_PIECE)
        if pending and (kind != "gzip" or not pending.startswith(_GZIP_MAGIC)):
            fact = f"the {kind} stream has {len(pending) + rest_of(file)} bytes after its end"
            raise ReadError(path, fact, AGAIN, reason="trailing_bytes")


def _stream_error(path: Path, kind: Kind, how: str, fact: str) -> ReadError:
    return ReadError(path, f"the {kind} stream {fact}", AGAIN, reason=f"{how}_{kind}")
