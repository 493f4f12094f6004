"""MetaImage (.mha) with its voxels in the same file, raw or zlib.

MetaImage lists x first; its matrix holds one row for each of x, y and z, in LPS.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from uvlm.data.ct.formats.stored import (
    CONVERT,
    Layout,
    StoredImage,
    check_layout,
    refuse_size,
    refuse_voxel_type,
    volume_shape,
)
from uvlm.data.ct.formats.text_header import Fields, add_field, header_lines, refuse_detached
from uvlm.data.ct.formats.verified import inflate, opened, read_exactly, rest_of
from uvlm.data.ct.grid_rules import check_grid, check_spacing, geometry_error
from uvlm.data.ct.volume import Affine, ReadError

_CODES: Final = {
    "met_char": "i1",
    "met_uchar": "u1",
    "met_short": "i2",
    "met_ushort": "u2",
    "met_int": "i4",
    "met_uint": "u4",
    "met_long_long": "i8",
    "met_ulong_long": "u8",
    "met_float": "f4",
    "met_double": "f8",
}
_MATRIX: Final = ("transformmatrix", "rotation", "orientation")
_ORIGIN: Final = ("offset", "origin", "position")


def read_metaimage(path: Path) -> StoredImage:
    """Read a volume."""
    with opened(path) as file:
        fields = _header(file, path)
        layout = _layout(fields)
        shape = volume_shape(layout.shape, path)
        if len(layout.shape) != 3:
            fields.refuse("ndims")
        affine = _affine(fields)
        check_grid(affine, path)
        if fields.choice("compresseddata", "False", "true", "false") == "true":
            _check_compressed_size(fields, rest_of(file))
            payload = inflate(file, layout.num_bytes, path, "zlib")
        else:
            payload = read_exactly(file, layout.num_bytes, path)
    return StoredImage(layout.array(payload).reshape(shape[::-1]), affine)


def _header(file: BinaryIO, path: Path) -> Fields:
    """Read up to ElementDataFile, which is the last field and says where the voxels are."""
    values: dict[str, str] = {}
    for line in header_lines(file, path):
        name, equals, text = line.partition("=")
        if not equals or (not values and name.strip().lower() not in ("objecttype", "ndims")):
            raise ReadError(path, "has no MetaImage header", CONVERT, reason="not_metaimage")
        add_field(values, name, text, path)
        if "elementdatafile" in values:
            break
    fields = Fields(path, values)
    if fields.text("elementdatafile") != "LOCAL":
        refuse_detached(path)
    fields.choice("headersize", "0", "0")
    fields.choice("binarydata", "True", "true")
    return fields


def _layout(fields: Fields) -> Layout:
    name = fields.text("elementtype").lower()
    channels = fields.values.get("elementnumberofchannels", "1")
    if name not in _CODES or channels != "1":
        refuse_voxel_type(
            fields.path, f"has {channels} values of type {name.upper()} a voxel, not one number"
        )
    dtype: np.dtype[Any] = np.dtype(_CODES[name])
    for field in ("binarydatabyteordermsb", "elementbyteordermsb"):
        if fields.choice(field, "False", "true", "false") == "true":
            dtype = dtype.newbyteorder(">")
    (dimension,) = fields.integers("ndims", 1)
    layout = Layout(tuple(fields.integers("dimsize", min(dimension, 16))), dtype)
    check_layout(layout, fields.path)
    return layout


def _affine(fields: Fields) -> Affine:
    """Build the affine from the rows of the matrix, the spacing and the origin."""
    matrix = next((name for name in _MATRIX if name in fields.values), None)
    origin = next((name for name in _ORIGIN if name in fields.values), None)
    if matrix is None or origin is None:
        raise geometry_error(
            fields.path,
            "does not say how its axes lie in the patient, so left and right are unknown",
            "convert it again from the original DICOM",
            reason="no_orientation",
        )
    spacing = fields.floats("elementspacing", 3)
    check_spacing(spacing, fields.path)
    rows = np.array(fields.floats(matrix, 9)).reshape(3, 3)
    unit = (np.abs(rows) < 2.0).all() and np.allclose(np.square(rows).sum(axis=1), 1.0, atol=2e-3)
    if not unit:
        raise geometry_error(fields.path, "has a matrix whose rows have not the length 1")
    affine = np.eye(4)
    affine[:3, :3] = (rows * np.array(spacing)[:, None])[::-1].T
    affine[:3, 3] = fields.floats(origin, 3)
    return affine


def _check_compressed_size(fields: Fields, real: int) -> None:
    if "compresseddatasize" not in fields.values:
        return
    (declared,) = fields.integers("compresseddatasize", 1)
    if declared != real:
        refuse_size(fields.path, declared, f"{real} compressed bytes")
