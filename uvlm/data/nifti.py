"""NIfTI-1 bytes to arrays and back, refusing what other readers repair in silence.

The file is verified before a voxel is used: every gzip member to its checksum and length, the
declared size against the real one before anything is allocated, then the geometry. NIfTI lists
x first and RAS; everything that leaves this module is (z, y, x) and LPS.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from isal import igzip_lib

from uvlm.data.volume import Affine, ReadError, spacing_of

_HEADER_BYTES: Final = 348
_DTYPES: Final = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_CODES: Final = {"uint8": 2, "int16": 4, "float32": 16}
_MAX_VOXELS: Final = 2**31
_MAX_DEFLATE_RATIO: Final = 1032  # no deflate stream expands further
_IsalError: Any = igzip_lib.IsalError  # typed as an instance by its stub
_LPS_FROM_RAS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])
_FOREIGN: Final = (
    (b"version https://git-lfs", "is a git-lfs pointer, not the file", "fetch it with `git lfs`"),
    (b"<", "is a web page or XML, not an image", "download it again"),
    (b"PK", "is a zip archive", "unpack it"),
)
_CONVERT: Final = "convert it to NIfTI (.nii.gz), for example with dcm2niix or SimpleITK"
_AGAIN: Final = "copy or download it again"


@dataclass(frozen=True)
class Header:
    """The fields of a NIfTI-1 header that say what the voxels are and where they lie."""

    shape: tuple[int, ...]  # x first, as in the file
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float
    pixdim: tuple[float, ...]
    qform_code: int
    sform_code: int
    quaternion: tuple[float, ...]  # b, c, d, then the offset x, y, z
    srow: tuple[float, ...]

    @property
    def num_voxels(self) -> int:
        """How many values the file declares."""
        count = 1
        for length in self.shape:
            count *= length
        return count

    @property
    def num_bytes(self) -> int:
        """Header, extensions and voxels."""
        return self.offset + self.num_voxels * self.dtype.itemsize


def read_nifti(path: Path) -> tuple[Header, npt.NDArray[Any]]:
    """Read the header and the stored values, last axis x; values are not scaled yet."""
    payload = _payload(path)
    if payload.startswith(b"\x1f\x8b"):
        header = parse_header(_peek(payload, path), path)
        if header.num_bytes > _MAX_DEFLATE_RATIO * len(payload):
            raise _size_error(path, header, f"{len(payload)} compressed bytes")
        payload = gunzip(payload, header.num_bytes, path)
    else:
        header = parse_header(payload[:_HEADER_BYTES], path)
    if len(payload) != header.num_bytes:
        raise _size_error(path, header, f"{len(payload)} bytes")
    flat = np.frombuffer(payload, header.dtype, header.num_voxels, header.offset)
    return header, flat.reshape(header.shape[::-1])


def gunzip(payload: bytes, limit: int, path: Path) -> bytes:
    """Decompress a whole gzip file, every member checked against its checksum and length."""
    parts: list[bytes] = []
    size = 0
    while payload:
        if not payload.startswith(b"\x1f\x8b"):
            raise _gzip_error(path, "trailing_bytes", f"has {len(payload)} bytes after its end")
        member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        try:
            part = member.decompress(payload, limit + 1 - size)
        except _IsalError as error:
            raise _gzip_error(path, "damaged_gzip", f"is damaged ({error})") from None
        size += len(part)
        if size > limit:
            raise _gzip_error(path, "size_mismatch", f"holds more than the declared {limit} bytes")
        if not member.eof:
            raise _gzip_error(path, "truncated_gzip", f"is cut off after {size} of {limit} bytes")
        parts.append(part)
        payload = member.unused_data
    return b"".join(parts)


def parse_header(raw: bytes, path: Path) -> Header:
    """Read and check the 348 bytes of a NIfTI-1 header."""
    order = _byte_order(raw, path)

    def values(layout: str, offset: int) -> tuple[Any, ...]:
        return struct.unpack_from(order + layout, raw, offset)

    dim = values("8h", 40)
    code = values("h", 70)[0]
    (offset, slope, inter) = values("3f", 108)
    if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1:
        raise ReadError(path, f"has the dimensions {dim[1:]}", _AGAIN, reason="dimensions")
    if code not in _DTYPES:
        raise ReadError(
            path, f"has voxel type {code}, not one number a voxel", _CONVERT, reason="voxel_type"
        )
    if not _HEADER_BYTES <= offset < 2**24 or offset != int(offset):
        raise ReadError(path, f"starts its voxels at byte {offset}", _AGAIN, reason="header")
    header = Header(
        shape=dim[1 : dim[0] + 1],
        dtype=np.dtype(order + _DTYPES[code]),
        offset=int(offset),
        slope=slope,
        inter=inter,
        pixdim=values("8f", 76),
        qform_code=values("h", 252)[0],
        sform_code=values("h", 254)[0],
        quaternion=values("6f", 256),
        srow=values("12f", 280),
    )
    if header.num_voxels > _MAX_VOXELS:
        raise ReadError(path, f"declares {header.num_voxels} voxels", _AGAIN, reason="dimensions")
    return header


def write_nifti(array: npt.NDArray[Any], affine: Affine) -> bytes:
    """Make the bytes of a .nii.gz file; a leading axis F of masks comes first in the file.

    The affine is written as sform, so that every reader sees the same one.
    """
    if array.ndim == 4:
        array = np.moveaxis(array, 0, -1)
    shape = array.shape[::-1]
    ras = (_LPS_FROM_RAS @ affine)[:, [2, 1, 0, 3]]
    spacing = spacing_of(affine)[::-1]
    pixdim = (1.0, *(spacing if array.ndim == 3 else (1.0, 1.0, 1.0, 1.0)))
    raw = bytearray(_HEADER_BYTES + 4)
    struct.pack_into("<i", raw, 0, _HEADER_BYTES)
    struct.pack_into("<8h", raw, 40, len(shape), *shape, *(1,) * (7 - len(shape)))
    struct.pack_into("<2h", raw, 70, _CODES[array.dtype.name], 8 * array.dtype.itemsize)
    struct.pack_into("<8f", raw, 76, *pixdim, *(1.0,) * (8 - len(pixdim)))
    struct.pack_into("<3f", raw, 108, len(raw), 1.0, 0.0)
    struct.pack_into("<B", raw, 123, 2)  # millimetres
    struct.pack_into("<2h", raw, 252, 0, 1)  # no qform; sform in scanner coordinates
    struct.pack_into("<12f", raw, 280, *ras[:3].ravel())
    struct.pack_into("<4s", raw, 344, b"n+1\0")
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return igzip_lib.compress(bytes(raw) + little.tobytes(), level=1, flag=igzip_lib.COMP_GZIP)


def _payload(path: Path) -> bytes:
    """Read the bytes of a file that at least looks like NIfTI."""
    if path.is_dir():
        raise ReadError(path, "is a folder", _CONVERT, reason="unsupported_format")
    try:
        payload = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ReadError(path, "no such file", "check the path", reason="missing_file") from None
    except OSError as error:
        raise ReadError(path, f"cannot be read ({error.strerror})", reason="unreadable") from None
    if not payload:
        raise ReadError(path, "is empty", _AGAIN, reason="empty_file")
    for start, fact, remedy in _FOREIGN:
        if payload.startswith(start):
            raise ReadError(path, fact, remedy, reason="not_nifti")
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ReadError(
            path, "is not a .nii or .nii.gz file", _CONVERT, reason="unsupported_format"
        )
    return payload


def _peek(payload: bytes, path: Path) -> bytes:
    """Decompress the header of a gzip file and nothing more."""
    try:
        member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        raw: bytes = member.decompress(payload, _HEADER_BYTES)
    except _IsalError as error:
        raise _gzip_error(path, "damaged_gzip", f"is damaged ({error})") from None
    if len(raw) < _HEADER_BYTES and not member.eof:
        raise _gzip_error(path, "truncated_gzip", "is cut off inside the image header")
    return raw


def _byte_order(raw: bytes, path: Path) -> str:
    """Find the byte order (< or >), after checking that this is single-file NIfTI-1."""
    if len(raw) == _HEADER_BYTES:
        for order in "<>":
            size = struct.unpack_from(order + "i", raw)[0]
            if size == _HEADER_BYTES and raw[344:348] == b"n+1\0":
                return order
            if size == 540 or (size == _HEADER_BYTES and raw[344:348] == b"ni1\0"):
                raise ReadError(
                    path,
                    "is NIfTI-2 or an .hdr/.img pair, of which only NIfTI-1 in one file is read",
                    _CONVERT,
                    reason="unsupported_format",
                )
    raise ReadError(path, "has no NIfTI header", _AGAIN, reason="not_nifti")


def _gzip_error(path: Path, reason: str, fact: str) -> ReadError:
    return ReadError(path, f"the gzip stream {fact}", _AGAIN, reason=reason)


def _size_error(path: Path, header: Header, real: str) -> ReadError:
    fact = f"the header declares {header.num_bytes} bytes but the file holds {real}"
    return ReadError(path, fact, _AGAIN, reason="size_mismatch")
