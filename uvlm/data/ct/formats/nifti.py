"""NIfTI-1 bytes to arrays and back; what other readers repair in silence is refused.

NIfTI lists x first and RAS; everything that leaves this module is (z, y, x) and LPS.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from isal import igzip_lib

from uvlm.arrays import Array
from uvlm.data.ct.formats.stored import AGAIN, CONVERT, Layout, refuse_voxel_type
from uvlm.data.ct.formats.verified import inflate, opened, peek, pieces, read_exactly
from uvlm.data.ct.volume import Affine, ReadError, spacing_of

_HEADER_BYTES: Final = 348
_DTYPES: Final = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8",
    256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_COLOURS: Final = {128: "RGB", 2304: "RGBA"}
_CODES: Final = {"uint8": 2, "int16": 4, "float32": 16}
_UNKNOWN_UNIT, _MILLIMETRES = 0, 2
_UNIT_NAMES: Final = {1: "metres", 3: "micrometres"}


@dataclass(frozen=True)
class Header:
    """The fields of a NIfTI-1 header that say what the voxels are and where they lie."""

    layout: Layout
    offset: int
    slope: float
    inter: float
    pixdim: tuple[float, ...]
    qform_code: int
    sform_code: int
    quaternion: tuple[float, ...]  # b, c, d, then the offset x, y, z
    srow: tuple[float, ...]


def read_nifti(path: Path) -> tuple[Header, Array]:
    """Read the header and the stored values, last axis x; values are not scaled yet."""
    with opened(path) as file:
        start, is_gzip = peek(file, _HEADER_BYTES, path)
        header = parse_header(start, path)
        size = header.offset + header.layout.num_bytes
        payload = inflate(file, size, path) if is_gzip else read_exactly(file, size, path)
    return header, header.layout.array(payload, header.offset)


def read_planes(path: Path, header: Header) -> Iterator[Array]:
    """Read the stored values plane by plane along the last axis of the file, the first one here.

    The memory is that of a plane. Only after the last plane is the file verified.
    """
    shape, dtype = header.layout.shape, header.layout.dtype
    plane_bytes = math.prod(shape[:-1]) * dtype.itemsize
    skip, pending = header.offset, bytearray()
    with opened(path) as file:
        _, is_gzip = peek(file, _HEADER_BYTES, path)
        size = header.offset + header.layout.num_bytes
        for piece in pieces(file, size, path, is_gzip):
            pending += piece[skip:]
            skip = max(0, skip - len(piece))
            while len(pending) >= plane_bytes:
                plane = np.frombuffer(bytes(pending[:plane_bytes]), dtype)
                del pending[:plane_bytes]
                yield plane.reshape(shape[-2::-1])


def read_nifti_header(path: Path) -> Header:
    """Read only the header; the voxels are neither read nor verified."""
    with opened(path) as file:
        return parse_header(peek(file, _HEADER_BYTES, path)[0], path)


def parse_header(raw: bytes, path: Path) -> Header:
    """Read and check the 348 bytes of a NIfTI-1 header."""
    order = _byte_order(raw, path)

    def values(layout: str, offset: int) -> tuple[Any, ...]:
        return struct.unpack_from(order + layout, raw, offset)

    dim = values("8h", 40)
    (code, bits) = values("2h", 70)
    (offset, slope, inter) = values("3f", 108)
    if not 1 <= dim[0] <= 7:
        raise ReadError(path, f"has the dimensions {dim[1:]}", AGAIN, reason="dimensions")
    # The offset is a float32, which holds every whole number up to 2**24.
    if not _HEADER_BYTES <= offset < 2**24 or offset != int(offset):
        raise ReadError(path, f"starts its voxels at byte {offset}", AGAIN, reason="header")
    unit = raw[123] & 7  # the upper bits hold the unit of time
    if unit not in (_UNKNOWN_UNIT, _MILLIMETRES):
        fact = f"states its voxel size in {_UNIT_NAMES.get(unit, f'unit {unit}')}"
        raise ReadError(path, fact, "write it with millimetres as the unit", reason="spacing")
    layout = Layout.checked(dim[1 : dim[0] + 1], _dtype(order, code, bits, path), path)
    pixdim, quaternion, srow = values("8f", 76), values("6f", 256), values("12f", 280)
    qform, sform = values("2h", 252)
    return Header(layout, int(offset), slope, inter, pixdim, qform, sform, quaternion, srow)


def write_nifti(array: Array, affine: Affine) -> bytes:
    """Make the bytes of a .nii.gz file; a leading axis F of masks comes first in the file.

    The affine is written as sform, so that every reader sees the same one.
    """
    if array.ndim == 4:
        array = np.moveaxis(array, 0, -1)  # (z, y, x, F): a file lists the last axis first
    shape = array.shape[::-1]
    spacing = spacing_of(affine)[::-1] if array.ndim == 3 else (1.0, 1.0, 1.0)
    raw = bytearray(_HEADER_BYTES + 4)  # the four bytes say that no extensions follow
    struct.pack_into("<i", raw, 0, _HEADER_BYTES)
    struct.pack_into("<8h", raw, 40, len(shape), *shape, *(1,) * (7 - len(shape)))
    struct.pack_into("<2h", raw, 70, _CODES[array.dtype.name], 8 * array.dtype.itemsize)
    struct.pack_into("<8f", raw, 76, 1.0, *spacing, *(1.0,) * 4)
    struct.pack_into("<3f", raw, 108, len(raw), 1.0, 0.0)
    struct.pack_into("<B", raw, 123, _MILLIMETRES)
    struct.pack_into("<2h", raw, 252, 0, 1)  # no qform; sform in scanner coordinates
    struct.pack_into("<12f", raw, 280, *swap_convention(affine)[:3].ravel())
    struct.pack_into("<4s", raw, 344, b"n+1\0")
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return igzip_lib.compress(bytes(raw) + little.tobytes(), level=1, flag=igzip_lib.COMP_GZIP)


def swap_convention(affine: Affine) -> Affine:
    """Turn an affine for (x, y, z, 1) and RAS into one for (z, y, x, 1) and LPS, or back."""
    swapped: Affine = (np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)[:, [2, 1, 0, 3]]
    return swapped


def _dtype(order: str, code: int, bits: int, path: Path) -> np.dtype[Any]:
    if code in _COLOURS:
        refuse_voxel_type(path, f"holds {_COLOURS[code]} colours, not one number a voxel")
    if code not in _DTYPES:
        refuse_voxel_type(path, f"has voxel type {code}, not one number a voxel")
    dtype = np.dtype(order + _DTYPES[code])
    if bits != 8 * dtype.itemsize:
        refuse_voxel_type(path, f"states {bits} bits a voxel, but its voxel type is {dtype.name}")
    return dtype


def _byte_order(raw: bytes, path: Path) -> str:
    """Find the byte order (< or >), after checking that this is single-file NIfTI-1."""
    whole, magic = len(raw) == _HEADER_BYTES, raw[344:348]
    sizes = [struct.unpack_from(order + "i", raw)[0] for order in "<>"] if whole else []
    if _HEADER_BYTES in sizes and magic == b"n+1\0":
        return "<>"[sizes.index(_HEADER_BYTES)]
    if 540 in sizes:
        fact = "is NIfTI-2; only NIfTI-1 is read"
        raise ReadError(path, fact, CONVERT, reason="unsupported_format")
    if _HEADER_BYTES in sizes and magic == b"ni1\0":
        fact = "is one of a pair .hdr and .img; only single files are read"
        raise ReadError(path, fact, CONVERT, reason="unsupported_format")
    raise ReadError(path, "has no NIfTI header", AGAIN, reason="not_nifti")
