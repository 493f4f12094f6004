"""NRRD with its voxels in the same file: raw, gzip, bzip2 or text.

NRRD lists x first; its directions are rows for x, y and z in the named space. An axis that is
`none` has no direction: it is not in space and must have the length 1.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import numpy as np

from uvlm.arrays import Array
from uvlm.data.ct.formats import stored, text_header
from uvlm.data.ct.formats.verified import Kind, inflate, opened, read_exactly
from uvlm.data.ct.grid_rules import check_grid
from uvlm.data.ct.volume import Affine, ReadError

_TYPES: Final = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_CODE_BY_NAME: Final = {name: code for code, names in _TYPES.items() for name in names}
_SIGNS_TO_LPS: Final = {
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
_NUMBER: Final = r"[^(),\s]+"
_UNIT: Final = re.compile(r'"([^"]*)"')
_VECTOR: Final = re.compile(rf"none|\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\)")
_KINDS: Final = ("domain", "space", "none", "???", "list", "time")
_KIND_BY_ENCODING: Final[dict[str, Kind | Literal["raw", "text"]]] = {
    "raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2",
    "ascii": "text", "text": "text", "txt": "text",
}  # fmt: skip
_SKIPS: Final = ("line skip", "lineskip", "byte skip", "byteskip")


def read_nrrd(path: Path) -> stored.StoredImage:
    """Read a volume."""
    with opened(path) as file:
        fields = _header(file, path)
        layout = _layout(fields)
        shape, affine = _grid(fields, layout)
        values = _voxels(file, fields, layout)
    return stored.StoredImage(values.reshape(shape[::-1]), affine)


def _voxels(file: BinaryIO, fields: text_header.Fields, layout: stored.Layout) -> Array:
    encoding = fields.text("encoding").lower()
    if encoding == "hex":
        fields.refuse_unread("encoding")
    kind = _KIND_BY_ENCODING[fields.choice("encoding", "", *_KIND_BY_ENCODING)]
    if kind == "text":
        return text_header.read_numbers(file, layout, fields.path)
    if kind == "raw":
        return layout.array(read_exactly(file, layout.num_bytes, fields.path))
    return layout.array(inflate(file, layout.num_bytes, fields.path, kind))


def _header(file: BinaryIO, path: Path) -> text_header.Fields:
    """Read up to the empty line; comments and key/value pairs say nothing about the voxels."""
    values: dict[str, str] = {}
    for number, line in enumerate(text_header.header_lines(file, path)):
        if number == 0 and not re.fullmatch(r"NRRD000[1-5]", line):
            raise ReadError(path, "has no NRRD header", stored.CONVERT, reason="not_nrrd")
        if not line:
            break
        name, colon, text = line.partition(": ")
        if number and colon and not line.startswith("#"):
            if name.lower() in ("data file", "datafile"):
                text_header.refuse_detached(path)
            text_header.add_field(values, name, text, path)
    fields = text_header.Fields(path, values)
    for name in _SKIPS:
        if fields.values.get(name, "0") != "0":
            fields.refuse_unread(name)
    return fields


def _layout(fields: text_header.Fields) -> stored.Layout:
    name = fields.text("type").lower()
    if name not in _CODE_BY_NAME:
        fact = f"has voxel type {name!r}, not one number a voxel"
        stored.refuse_voxel_type(fields.path, fact)
    dtype: np.dtype[Any] = np.dtype(_CODE_BY_NAME[name])
    if dtype.itemsize > 1 and fields.text("encoding").lower() not in ("ascii", "text", "txt"):
        fields.text("endian")
        order = fields.choice("endian", "", "little", "big")
        dtype = dtype.newbyteorder("<" if order == "little" else ">")
    layout = fields.layout("dimension", "sizes", dtype)
    # Colours and vectors are only told from space by the kind of their axis.
    for kind, length in zip(fields.values.get("kinds", "").split(), layout.shape, strict=False):
        if kind.lower() not in _KINDS:
            fact = f"has an axis of {length} values of kind {kind!r}"
            stored.refuse_voxel_type(fields.path, fact)
    return layout


def _grid(fields: text_header.Fields, layout: stored.Layout) -> tuple[tuple[int, ...], Affine]:
    """Build shape, x first, and affine from the space, its directions and its origin."""
    if "space" not in fields.values or "space directions" not in fields.values:
        stored.volume_shape(layout.shape, fields.path)
        fact = "does not name its space, so left and right are unknown"
        raise ReadError(fields.path, fact, stored.FROM_DICOM, reason="no_orientation")
    space = fields.text("space").lower()
    if space not in _SIGNS_TO_LPS:
        fact = f"lies in the space {space[:60]!r}, which does not tell left from right"
        raise ReadError(fields.path, fact, stored.FROM_DICOM, reason="header")
    signs = np.array(_SIGNS_TO_LPS[space], float)
    directions = _vectors(fields, "space directions", len(layout.shape))
    axes = [*zip(layout.shape, directions, strict=True)]
    in_space, others = ([axis for axis in axes if bool(axis[1]) == want] for want in (True, False))
    shape = stored.volume_shape(tuple(length for length, _ in [*in_space, *others]), fields.path)
    origin = _vectors(fields, "space origin", 1)
    if len(in_space) != 3 or not origin[0]:
        fields.refuse("space directions" if origin[0] else "space origin")
    # Directions are in the order x, y, z and are reversed, as our columns are z, y, x.
    vectors = [vector for _, vector in in_space[::-1]] + origin
    affine = np.vstack([np.array(vectors).T * signs[:, None], [0.0, 0.0, 0.0, 1.0]])
    check_grid(affine, fields.path)
    for unit in _UNIT.findall(fields.values.get("space units", "")):
        fields.check_unit("space units", unit)
    return shape, affine


def _vectors(fields: text_header.Fields, name: str, count: int) -> list[tuple[float, ...]]:
    """Read a field of `count` vectors (x,y,z); an axis that is `none` has an empty one."""
    text = fields.text(name)
    found = _VECTOR.findall(text)
    if len(found) != count or _VECTOR.sub("", text).strip():
        fields.refuse(name)
    try:
        return [tuple(map(float, vector)) if any(vector) else () for vector in found]
    except ValueError:
        fields.refuse(name)
