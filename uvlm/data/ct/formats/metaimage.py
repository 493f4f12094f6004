"""MetaImage (.mha) with its voxels in the same file: raw, zlib or text.

MetaImage lists x first; its matrix holds one row for each of x, y and z, in LPS.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from uvlm.arrays import Array
from uvlm.data.ct.formats import stored, text_header
from uvlm.data.ct.formats.verified import inflate, opened, read_exactly, rest_of
from uvlm.data.ct.grid_rules import check_grid, check_spacing, geometry_error
from uvlm.data.ct.volume import Affine, ReadError

_CODES: Final = {
    "met_char": "i1", "met_uchar": "u1", "met_short": "i2", "met_ushort": "u2",
    "met_int": "i4", "met_uint": "u4", "met_long_long": "i8", "met_ulong_long": "u8",
    "met_long": "i4", "met_ulong": "u4",  # 4 bytes on every machine
    "met_float": "f4", "met_double": "f8",
}  # fmt: skip
_MATRIX: Final = ("transformmatrix", "rotation", "orientation")
_ORIGIN: Final = ("offset", "origin", "position")
_FIRST: Final = ("objecttype", "ndims", "comment")
_SCALES: Final = {"elementtointensityfunctionslope": 1.0, "elementtointensityfunctionoffset": 0.0}
_UNIT_TOLERANCE: Final = 2e-3  # of the squared length of a row


def read_metaimage(path: Path) -> stored.StoredImage:
    """Read a volume."""
    with opened(path) as file:
        fields = _header(file, path)
        layout = _layout(fields)
        shape = stored.volume_shape(layout.shape, path)
        if len(layout.shape) < 3:
            fields.refuse("ndims")
        affine = _affine(fields, len(layout.shape))
        check_grid(affine, path)
        values = _voxels(file, fields, layout)
    return stored.StoredImage(values.reshape(shape[::-1]), affine)


def _voxels(file: BinaryIO, fields: text_header.Fields, layout: stored.Layout) -> Array:
    if fields.choice("binarydata", "True", "true", "1", "false", "0") in ("false", "0"):
        return text_header.read_numbers(file, layout, fields.path)
    if fields.yes("compresseddata"):
        _check_compressed_size(fields, rest_of(file))
        return layout.array(inflate(file, layout.num_bytes, fields.path, "zlib"))
    return layout.array(read_exactly(file, layout.num_bytes, fields.path))


def _header(file: BinaryIO, path: Path) -> text_header.Fields:
    """Read up to ElementDataFile, which is the last field and says where the voxels are."""
    values: dict[str, str] = {}
    for line in text_header.header_lines(file, path):
        name, equals, text = line.partition("=")
        if not equals or (not values and name.strip().lower() not in _FIRST):
            raise ReadError(path, "has no MetaImage header", stored.CONVERT, reason="not_metaimage")
        text_header.add_field(values, name, text, path)
        if "elementdatafile" in values:
            break
    fields = text_header.Fields(path, values)
    if fields.text("elementdatafile").upper() != "LOCAL":
        text_header.refuse_detached(path)
    if fields.values.get("headersize", "0") != "0":
        fields.refuse_unread("headersize")
    fields.check_unit("distanceunits", values.get("distanceunits", ""))
    for name, neutral in _SCALES.items():  # no tool agrees with another on what they do
        if name in values and fields.floats(name, 1) != [neutral]:
            fields.refuse(name)
    return fields


def _layout(fields: text_header.Fields) -> stored.Layout:
    name = fields.text("elementtype").lower()
    channels = fields.values.get("elementnumberofchannels", "1")
    if name not in _CODES or channels != "1":
        fact = f"has {channels} values of type {name.upper()} a voxel, not one number"
        stored.refuse_voxel_type(fields.path, fact)
    dtype: np.dtype[Any] = np.dtype(_CODES[name])
    for field in ("binarydatabyteordermsb", "elementbyteordermsb"):
        if fields.yes(field):
            dtype = dtype.newbyteorder(">")
    return fields.layout("ndims", "dimsize", dtype)


def _affine(fields: text_header.Fields, dimensions: int) -> Affine:
    """Build the affine from the rows of the matrix, the spacing and the origin."""
    matrix = next((name for name in _MATRIX if name in fields.values), None)
    origin = next((name for name in _ORIGIN if name in fields.values), None)
    if matrix is None or origin is None:
        fact = "does not say how its axes lie in the patient, so left and right are unknown"
        raise ReadError(fields.path, fact, stored.FROM_DICOM, reason="no_orientation")
    spacing = fields.floats("elementspacing", dimensions)[:3]
    check_spacing(spacing, fields.path)
    square = np.array(fields.floats(matrix, dimensions**2)).reshape(dimensions, dimensions)
    rows = square[:3, :3]
    if square[3:, :3].any() or square[:3, 3:].any():  # further axes, of length 1, are not in space
        fields.refuse(matrix)
    lengths = np.square(np.clip(rows, -2.0, 2.0)).sum(axis=1)  # clipped: a huge number overflows
    if not np.allclose(lengths, 1.0, atol=_UNIT_TOLERANCE):
        raise geometry_error(fields.path, "has a matrix whose rows are not of length 1")
    affine = np.eye(4)
    affine[:3, :3] = (rows * np.array(spacing)[:, None])[::-1].T  # rows x, y, z to columns z, y, x
    affine[:3, 3] = fields.floats(origin, dimensions)[:3]
    return affine


def _check_compressed_size(fields: text_header.Fields, real: int) -> None:
    if "compresseddatasize" in fields.values:
        (declared,) = fields.integers("compresseddatasize", 1)
        if declared != real:
            stored.refuse_size(fields.path, declared, f"{real} compressed bytes")
