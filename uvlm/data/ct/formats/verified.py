"""Bytes of a file, whole or not at all.

A compressed stream is decompressed once, into memory of the declared size, and counts only when
its checksum, its length and its end are right and nothing follows. Only the file that was named is
ever opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from isal import igzip_lib

from uvlm.data.ct.formats.stored import AGAIN, refuse_size
from uvlm.data.ct.volume import ReadError

GZIP_MAGIC: Final = b"\x1f\x8b"
_PIECE: Final = 2**20
_MAX_DEFLATE_RATIO: Final = 1032  # no deflate stream expands further
_IsalError: Any = igzip_lib.IsalError  # typed as an instance by its stub
_FLAGS: Final = {"gzip": igzip_lib.DECOMP_GZIP, "zlib": igzip_lib.DECOMP_ZLIB}
_FOREIGN: Final = (
    (b"version https://git-lfs", "is a git-lfs pointer, not the file", "fetch it with `git lfs`"),
    (b"<", "is a web page or XML, not an image", "download it again"),
    (b"PK", "is a zip archive", "unpack it"),
)
Kind = Literal["gzip", "zlib"]


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file that at least may be an image; what it plainly is instead is said by name."""
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


def rest_of(file: BinaryIO) -> int:
    """How many bytes lie between the position and the end of a file."""
    here = file.tell()
    end = file.seek(0, 2)
    file.seek(here)
    return end - here


def read_exactly(file: BinaryIO, size: int, path: Path) -> bytearray:
    """Read the rest of a file, which has to have `size` bytes."""
    real = rest_of(file)
    if real != size:
        refuse_size(path, size, f"{real} bytes")
    payload = bytearray(size)
    if file.readinto(payload) != size:  # type: ignore[attr-defined]
        refuse_size(path, size, "fewer while it is read")
    return payload


def peek_gzip(file: BinaryIO, size: int, path: Path) -> bytes:
    """Decompress the first bytes of a gzip file and go back to its start."""
    try:
        member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        start: bytes = member.decompress(file.read(_PIECE), size)
    except _IsalError as error:
        raise _stream_error(path, "gzip", "damaged", f"is damaged ({error})") from None
    if len(start) < size and not member.eof:
        raise _stream_error(path, "gzip", "truncated", "is cut off inside the image header")
    file.seek(0)
    return start


def inflate(file: BinaryIO, size: int, path: Path, kind: Kind = "gzip") -> bytearray:
    """Decompress the rest of a file, which has to hold exactly `size` bytes.

    A gzip file may have several members, each with a checksum and a length of its own.
    """
    compressed = rest_of(file)
    if size > _MAX_DEFLATE_RATIO * compressed:
        refuse_size(path, size, f"{compressed} compressed bytes")
    payload = bytearray(size)
    filled = 0
    stream = _Stream(file, kind, path)
    for part in stream.parts(size):
        if filled + len(part) > size:
            fact = f"holds more than the declared {size} bytes"
            raise ReadError(path, f"the {kind} stream {fact}", AGAIN, reason="size_mismatch")
        payload[filled : filled + len(part)] = part
        filled += len(part)
    if filled != size:
        refuse_size(path, size, f"{filled} bytes")
    return payload


class _Stream:
    """The members of a compressed stream, each checked at its end."""

    def __init__(self, file: BinaryIO, kind: Kind, path: Path) -> None:
        self._file, self._kind, self._path = file, kind, path
        self._pending = file.read(_PIECE)

    def parts(self, size: int) -> Iterator[bytes]:
        """Decompress piece by piece; no more than one byte past `size` in all."""
        done = 0
        first = True
        while self._pending:
            if not first and (self._kind == "zlib" or self._pending[:2] != GZIP_MAGIC):
                count = len(self._pending) + rest_of(self._file)
                fact = f"the {self._kind} stream has {count} bytes after its end"
                raise ReadError(self._path, fact, AGAIN, reason="trailing_bytes")
            first = False
            for part in self._member(size + 1 - done, done, size):
                done += len(part)
                yield part

    def _member(self, limit: int, before: int, size: int) -> Iterator[bytes]:
        member = igzip_lib.IgzipDecompressor(flag=_FLAGS[self._kind])
        done = 0
        while not member.eof:
            if not self._pending:
                fact = f"is cut off after {before + done} of {size} bytes"
                raise _stream_error(self._path, self._kind, "truncated", fact)
            try:
                part = member.decompress(self._pending, max(limit - done, 0))
            except _IsalError as error:
                fact = f"is damaged ({error})"
                raise _stream_error(self._path, self._kind, "damaged", fact) from None
            self._pending = b"" if member.eof else self._file.read(_PIECE)
            done += len(part)
            yield part
        self._pending = member.unused_data
        if len(self._pending) < len(GZIP_MAGIC):
            self._pending += self._file.read(_PIECE)


def _stream_error(path: Path, kind: Kind, how: str, fact: str) -> ReadError:
    return ReadError(path, f"the {kind} stream {fact}", AGAIN, reason=f"{how}_{kind}")
