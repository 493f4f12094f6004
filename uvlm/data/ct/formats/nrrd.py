"""NRRD with its voxels in the same file, raw or gzip.

NRRD lists x first; its directions are rows for x, y and z in the named space.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from uvlm.data.ct.formats import stored, text_header
from uvlm.data.ct.formats.verified import inflate, opened, read_exactly
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
_VECTOR: Final = re.compile(rf"\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\)")
_KINDS: Final = ("domain", "space", "none", "???", "list", "time")
_SKIPS: Final = ("line skip", "lineskip", "byte skip", "byteskip")


def read_nrrd(path: Path) -> stored.StoredImage:
    """Read a volume."""
    with opened(path) as file:
        fields = _header(file, path)
        layout = _layout(fields)
        shape = stored.volume_shape(layout.shape, path)
        affine = _affine(fields)
        check_grid(affine, path)
        is_raw = fields.choice("encoding", "", "raw", "gzip", "gz") == "raw"
        payload = (read_exactly if is_raw else inflate)(file, layout.num_bytes, path)
    return stored.StoredImage(layout.array(payload).reshape(shape[::-1]), affine)


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
        fields.choice(name, "0", "0")
    return fields


def _layout(fields: text_header.Fields) -> stored.Layout:
    name = fields.text("type").lower()
    if name not in _CODE_BY_NAME:
        fact = f"has voxel type {name!r}, not one number a voxel"
        stored.refuse_voxel_type(fields.path, fact)
    dtype: np.dtype[Any] = np.dtype(_CODE_BY_NAME[name])
    if dtype.itemsize > 1:
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


def _affine(fields: text_header.Fields) -> Affine:
    """Build the affine from the space, its directions and its origin."""
    if "space" not in fields.values or "space directions" not in fields.values:
        fact = "does not name its space, so left and right are unknown"
        raise ReadError(fields.path, fact, stored.FROM_DICOM, reason="no_orientation")
    signs = np.array(_SIGNS_TO_LPS[fields.choice("space", "", *_SIGNS_TO_LPS)], float)
    # In the order x, y, z; reversed below, as our columns are z, y, x.
    directions = _vectors(fields, "space directions", 3)
    origin = _vectors(fields, "space origin", 1)
    columns = np.array([*directions[::-1], *origin]).T * signs[:, None]  # (3, 4): z, y, x, origin
    return np.vstack([columns, [0.0, 0.0, 0.0, 1.0]])


def _vectors(fields: text_header.Fields, name: str, count: int) -> list[tuple[float, ...]]:
    """Read a field of `count` vectors (x,y,z); axes without direction come last, as `none`."""
    text = fields.text(name)
    found = _VECTOR.findall(text)
    rest = _VECTOR.sub("", text).split()
    if len(found) != count or not set(rest) <= {"none"}:
        fields.refuse(name)
    try:
        return [tuple(map(float, vector)) for vector in found]
    except ValueError:
        fields.refuse(name)
