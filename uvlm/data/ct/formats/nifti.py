"""NIfTI-1 bytes to arrays and back, refusing what other readers repair in silence.

NIfTI lists x first and RAS; everything that leaves this module is (z, y, x) and LPS.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

import numpy as np
import numpy.typing as npt
from isal import igzip_lib

from uvlm.data.ct.formats.stored import (
    AGAIN,
    CONVERT,
    Layout,
    check_layout,
    refuse_voxel_type,
)
from uvlm.data.ct.formats.verified import (
    GZIP_MAGIC,
    inflate,
    opened,
    peek_gzip,
    read_exactly,
)
from uvlm.data.ct.volume import Affine, ReadError, spacing_of

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
_COLOURS: Final = {128: "RGB", 2304: "RGBA"}
_CODES: Final = {"uint8": 2, "int16": 4, "float32": 16}
_UNKNOWN_UNIT, _MILLIMETRES = 0, 2
_UNIT_NAMES: Final = {1: "metres", 3: "micrometres"}
_LPS_FROM_RAS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])


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

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths, x first, as in the file."""
        return self.layout.shape

    @property
    def num_bytes(self) -> int:
        """Header, extensions and voxels."""
        return self.offset + self.layout.num_bytes


def read_nifti(path: Path) -> tuple[Header, npt.NDArray[Any]]:
    """Read the header and the stored values, last axis x; values are not scaled yet."""
    with opened(path) as file:
        header, payload = _verified(file, path)
    return header, header.layout.array(payload, header.offset)


def read_nifti_header(path: Path) -> Header:
    """Read only the header; the voxels are neither read nor verified."""
    with opened(path) as file:
        if file.read(2) == GZIP_MAGIC:
            file.seek(0)
            return parse_header(peek_gzip(file, _HEADER_BYTES, path), path)
        file.seek(0)
        return parse_header(file.read(_HEADER_BYTES), path)


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
    if not _HEADER_BYTES <= offset < 2**24 or offset != int(offset):
        raise ReadError(path, f"starts its voxels at byte {offset}", AGAIN, reason="header")
    _check_unit(raw[123] & 7, path)
    layout = Layout(dim[1 : dim[0] + 1], _dtype(order, code, bits, path))
    check_layout(layout, path)
    return Header(
        layout=layout,
        offset=int(offset),
        slope=slope,
        inter=inter,
        pixdim=values("8f", 76),
        qform_code=values("h", 252)[0],
        sform_code=values("h", 254)[0],
        quaternion=values("6f", 256),
        srow=values("12f", 280),
    )


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


def _verified(file: BinaryIO, path: Path) -> tuple[Header, bytearray]:
    """Read the header first, then the whole file at the size that it declares."""
    compressed = file.read(2) == GZIP_MAGIC
    file.seek(0)
    if compressed:
        header = parse_header(peek_gzip(file, _HEADER_BYTES, path), path)
        return header, inflate(file, header.num_bytes, path)
    header = parse_header(file.read(_HEADER_BYTES), path)
    file.seek(0)
    return header, read_exactly(file, header.num_bytes, path)


def _dtype(order: str, code: int, bits: int, path: Path) -> np.dtype[Any]:
    if code in _COLOURS:
        refuse_voxel_type(path, f"holds {_COLOURS[code]} colours, not one number a voxel")
    if code not in _DTYPES:
        refuse_voxel_type(path, f"has voxel type {code}, not one number a voxel")
    dtype = np.dtype(order + _DTYPES[code])
    if bits != 8 * dtype.itemsize:
        refuse_voxel_type(path, f"states {bits} bits a voxel, but its voxel type {dtype.name}")
    return dtype


def _check_unit(unit: int, path: Path) -> None:
    if unit not in (_UNKNOWN_UNIT, _MILLIMETRES):
        raise ReadError(
            path,
            f"states its voxel size in {_UNIT_NAMES.get(unit, f'unit {unit}')}",
            "write it with millimetres as unit",
            reason="spacing",
        )


def _byte_order(raw: bytes, path: Path) -> str:
    """Find the byte order (< or >), after checking that this is single-file NIfTI-1."""
    if len(raw) == _HEADER_BYTES:
        for order in "<>":
            size = struct.unpack_from(order + "i", raw)[0]
            if size == _HEADER_BYTES and raw[344:348] == b"n+1\0":
                return order
            if size == 540:
                _refuse_kind(path, "is NIfTI-2; only NIfTI-1 is read")
            if size == _HEADER_BYTES and raw[344:348] == b"ni1\0":
                _refuse_kind(path, "is one of a pair .hdr and .img; only single files are read")
    raise ReadError(path, "has no NIfTI header", AGAIN, reason="not_nifti")


def _refuse_kind(path: Path, fact: str) -> NoReturn:
    raise ReadError(path, fact, CONVERT, reason="unsupported_format")
