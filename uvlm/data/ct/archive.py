"""A zip that holds one CT, unpacked into a private folder for as long as it is read.

Refused, with a reason of its own each: a name that leads out of the folder, a link or another
special file, an archive in the archive, a password, two files of one name, damage, and more files
or bytes than any CT has. Nothing is unpacked before the whole list of contents was looked at, and
no more than it declares is ever written.
"""

from __future__ import annotations

import lzma
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from uvlm.data.ct.find import IMAGE_SUFFIXES, mode_of
from uvlm.errors import ReadError, SetupError

_STARTS: Final = (b"PK\x03\x04", b"PK\x05\x06")
_MOST_FILES: Final = 20_000
_MOST_BYTES: Final = 8 << 30
_SURE_BYTES: Final = 256 << 20  # below, even an empty CT that packs very well is no danger
_MOST_TIMES: Final = 200  # as large as packed; CTs reach about 20
_LONGEST_NAME: Final = 255
_NESTED: Final = (
    *(".zip", ".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar"),
    *(".jar", ".iso", ".cab", ".lzma", ".z"),
)
_PACKED_IMAGES: Final = (*(s for s in IMAGE_SUFFIXES if s.endswith(".gz")), ".raw.gz")
_NESTED_STARTS: Final = (
    *(b"PK\x03\x04", b"PK\x05\x06", b"7z\xbc\xaf\x27\x1c", b"Rar!", b"\xfd7zXZ\x00", b"BZh"),
    *(b"\x1f\x8b", b"\x28\xb5\x2f\xfd"),
)
_LONGEST_START: Final = 8
_DRIVE: Final = re.compile(r"[A-Za-z]:")
_CHUNK: Final = 1 << 20
_DAMAGE: Final = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, NotImplementedError, RuntimeError, ValueError),
)


def is_zip(path: Path) -> bool:
    """Whether a file is a zip, by its first bytes or its name."""
    if not stat.S_ISREG(mode_of(path)):
        return False
    if path.suffix.lower() == ".zip":
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) in _STARTS
    except OSError:
        return False


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yield a folder with the files of a zip, which nobody else can read and which then goes.

    Raises:
        ReadError: the archive is refused; nothing of it stays.
        SetupError: there is no room for it.
    """
    with tempfile.TemporaryDirectory(prefix="uvlm-") as name:
        try:
            with zipfile.ZipFile(path) as archive:
                _unpack_all(path, archive, Path(name))
        except _DAMAGE as error:
            fact = f"cannot be unpacked ({type(error).__name__})"
            raise ReadError(path, fact, "pack it again", reason="damaged_zip") from None
        yield Path(name)


def _unpack_all(path: Path, archive: zipfile.ZipFile, folder: Path) -> None:
    members = _checked(path, archive)
    total = sum(member.file_size for member in members)
    if shutil.disk_usage(folder).free < total:
        fact = f"has no room for the {total:,} bytes of a zip"
        raise SetupError(folder.parent, fact, "set TMPDIR to a folder on another disk")
    for number, member in enumerate(members, start=1):
        _unpack(path, archive, member, number, folder)


def _checked(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Look at the list of contents; return the files."""
    everything = archive.infolist()
    packed, size = sum(m.compress_size for m in everything), sum(m.file_size for m in everything)
    is_dense = size > _SURE_BYTES and size > _MOST_TIMES * max(packed, path.stat().st_size)
    if len(everything) > _MOST_FILES or size > _MOST_BYTES or is_dense:
        fact = f"is a zip of {len(everything):,} files and {size:,} bytes, more than any CT has"
        raise ReadError(path, fact, "pass the CT itself", reason="zip_bomb")
    seen: set[str] = set()
    for number, member in enumerate(everything, start=1):
        if problem := _problem(member, seen):
            reason, what = problem
            fact, remedy = f"is a zip whose entry {number} {what}", "pack the CT's own files only"
            named = f"{fact} ({member.orig_filename[:_LONGEST_NAME]!a})"
            raise ReadError(path, fact, remedy, reason=reason, named=named)
    return [member for member in everything if not member.is_dir()]


def _problem(member: zipfile.ZipInfo, seen: set[str]) -> tuple[str, str] | None:
    """Say what is wrong with an entry: a slug, and in words."""
    name = member.orig_filename
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or _DRIVE.match(name) or not parts:
        return "path_traversal", "leads out of its folder"
    if not name.isprintable() or any(len(part.encode()) > _LONGEST_NAME for part in parts):
        return "path_traversal", "has a name that is none"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "symlink", "is a link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "special_file", "is no file"
    if member.flag_bits & 1:
        return "encrypted_zip", "has a password"
    lower = name.lower()
    if lower.endswith(_NESTED) and not lower.endswith(_PACKED_IMAGES):
        return "nested_archive", "is an archive itself"
    if (key := name.casefold().rstrip("/")) in seen:
        return "damaged_zip", "has the name of another"
    seen.add(key)
    return None


def _unpack(
    path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, number: int, folder: Path
) -> None:
    """Write one file, at most as long as it is declared to be."""
    target = folder / member.filename
    is_image = member.filename.lower().endswith(_PACKED_IMAGES)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as packed, target.open("xb") as file:
            start = packed.read(_LONGEST_START)
            if start.startswith(_NESTED_STARTS) and not is_image:
                fact = f"is a zip whose entry {number} is an archive itself"
                named = f"{fact} ({member.filename!a})"
                remedy = "pack the CT's own files only"
                raise ReadError(path, fact, remedy, reason="nested_archive", named=named)
            left, chunk = member.file_size, start
            while chunk:
                left -= len(chunk)
                if left < 0:
                    fact = f"is a zip whose entry {number} is longer than it says"
                    raise ReadError(path, fact, "pack it again", reason="zip_bomb")
                file.write(chunk)
                chunk = packed.read(_CHUNK)
    except OSError as error:
        fact = f"is a zip whose entry {number} cannot be unpacked ({error.strerror})"
        raise ReadError(path, fact, "pack it again", reason="damaged_zip") from None


def names_in(path: Path) -> Sequence[str]:
    """List the names of a zip's entries, as far as they can be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return ()
