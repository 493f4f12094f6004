"""One CT series, ordered by position.

    headers of one series --order--> slices along its normal --check grid--> decoded

Nothing is repaired: duplicate, missing, shifted or differently shaped slices refuse the series.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from uvlm.arrays import Array
from uvlm.data.ct.formats.dicom_frames import check_parts, slice_headers
from uvlm.data.ct.formats.dicom_header import CtFile, SliceHeader, read_header
from uvlm.data.ct.formats.dicom_pixels import read_pixels
from uvlm.data.ct.formats.stored import AGAIN, StoredImage, volume_shape
from uvlm.data.ct.grid_rules import check_grid, geometry_error
from uvlm.data.ct.volume import Affine, ReadError

_TURNED: Final = 0.005  # between direction cosines of one series
_UNEVEN: Final = 0.25  # of the distance between slices
_TILT: Final = 0.01  # sine of the angle between the stack and the normal of its slices
_ONE_PLACE_MM: Final = 0.01


def read_series(files: Sequence[CtFile], folder: Path) -> StoredImage:
    """Read the slices of one series, ordered by position."""
    check_parts(files, folder)
    slices = [header for file in files for header in slice_headers(file)]
    _check_alike(slices, folder)
    slices = _ordered(slices, folder)
    affine = _affine(slices, folder)
    check_grid(affine, folder)
    values, slope, inter = _decode(slices, folder)
    return StoredImage(values, affine, slope, inter)


def read_file(path: Path) -> StoredImage:
    """Read one file that holds a whole CT as its frames."""
    file = read_header(path)
    if isinstance(file, str) or file.num_frames is None:
        fact, remedy = "is one DICOM file", "pass the folder of its whole series"
        raise ReadError(path, fact, remedy, reason="single_slice")
    return read_series([file], path)


def _check_alike(slices: Sequence[SliceHeader], folder: Path) -> None:
    """Check that all slices share patient, frame, shape, spacing and direction."""
    first = slices[0]
    lengths = np.linalg.norm(np.reshape(first.orientation, (2, 3)), axis=1)
    if np.abs(lengths - 1).max() > _TURNED:
        raise geometry_error(folder, f"has direction vectors with lengths {lengths}, not 1")
    for name, what in (("patient", "patients"), ("frame", "frames of reference")):
        values = {getattr(header, name) for header in slices}
        if len(values) > 1:
            raise _mixed(folder, f"mixes {len(values)} {what} in one series")
    for header in slices[1:]:
        if (header.rows, header.columns) != (first.rows, first.columns):
            shapes = f"{first.rows} x {first.columns} and {header.rows} x {header.columns}"
            raise _mixed(folder, f"mixes slices of {shapes} ({header.name})")
        if np.abs(np.subtract(header.orientation, first.orientation)).max() > _TURNED:
            raise _mixed(folder, f"mixes slices of different directions ({header.name})")
        if not np.allclose(header.pixel_spacing, first.pixel_spacing, rtol=1e-3):
            raise _mixed(folder, f"mixes pixel spacings ({header.name})")


def _ordered(slices: Sequence[SliceHeader], folder: Path) -> list[SliceHeader]:
    """Order along the normal of the slices; every place must be filled exactly once."""
    volume_shape((slices[0].columns, slices[0].rows, len(slices)), folder)
    # Slice numbers are not reliable; the height along the common normal, in mm, is.
    normal = np.cross(*np.reshape(slices[0].orientation, (2, 3)))
    heights = np.array([float((normal * header.position).sum()) for header in slices])
    order = np.argsort(heights, kind="stable")
    ordered, heights = [slices[i] for i in order], heights[order]
    gaps = np.diff(heights)
    twice = np.flatnonzero(gaps < _ONE_PLACE_MM)
    if twice.size:
        names = f"{ordered[twice[0]].name} and {ordered[twice[0] + 1].name}"
        fact = f"has {twice.size + 1} slices at places that are taken ({names})"
        remedy = "leave one copy, or one phase, in the folder"
        raise ReadError(folder, fact, remedy, reason="duplicate_slices")
    _check_gaps(ordered, heights, folder)
    return ordered


def _check_gaps(ordered: Sequence[SliceHeader], heights: Array, folder: Path) -> None:
    """Refuse a wide gap, a drift from even places, and slices further apart than stated."""
    again, gaps = "export the whole series again: slices are missing", np.diff(heights)
    step = float(np.median(gaps))
    wide = np.flatnonzero(np.abs(gaps - step) > _UNEVEN * step)
    # Gaps that are each a little off add up, so compare with evenly spaced places too.
    drift = np.abs(heights - np.linspace(heights[0], heights[-1], len(heights)))
    if wide.size or drift.max() > _UNEVEN * step:
        at = wide[0] if wide.size else int(drift.argmax()) - 1
        name = ordered[at].name
        fact = f"has slices {step:g} mm apart, but {gaps[at]:g} mm after {name}"
        raise ReadError(folder, fact, f"{again} or uneven", reason="missing_slices")
    # With every second slice gone the gaps are even, but wider than the header says. A header that
    # says more, as of overlapping slices, or that is negative, says nothing of missing ones.
    stated = ordered[0].slice_spacing or 0.0
    if stated > 0 and step - stated > _UNEVEN * stated:
        fact = f"states {stated:g} mm between slices, but they lie {step:g} mm apart"
        raise ReadError(folder, fact, again, reason="missing_slices")


def _affine(slices: Sequence[SliceHeader], folder: Path) -> Affine:
    """Index (z, y, x, 1) to LPS millimetres; the stack must be perpendicular to its slices."""
    first, last = slices[0], slices[-1]
    along_row, along_column = np.reshape(first.orientation, (2, 3))
    rise = np.subtract(last.position, first.position) / (len(slices) - 1)
    normal = np.cross(along_row, along_column)
    # The part of the rise that is not along the normal: the sine of the gantry's tilt.
    shift = np.linalg.norm(rise - np.dot(rise, normal) * normal) / np.linalg.norm(rise)
    if shift > _TILT:
        angle = np.degrees(np.arcsin(min(1.0, float(shift))))
        fact = f"was taken with a tilted gantry ({angle:.1f} degrees)"
        remedy = "resample it to a straight grid, for example with dcm2niix"
        raise ReadError(folder, fact, remedy, reason="gantry_tilt")
    rows, columns = first.pixel_spacing  # rows are apart along a column, and columns along a row
    axes = [rise, along_column * rows, along_row * columns, first.position]
    return np.vstack([np.column_stack(axes), [0.0, 0.0, 0.0, 1.0]])


def _decode(slices: Sequence[SliceHeader], folder: Path) -> tuple[Array, float, float]:
    """Stack the stored values; give them with the slope and intercept that are left to apply."""
    first = slices[0]
    alike = len({(header.slope, header.inter) for header in slices}) == 1
    stack = np.empty((len(slices), first.rows, first.columns), np.uint16 if alike else np.float32)
    dtypes = set()
    for index, pixels in read_pixels(slices):
        plane, header = stack[index], slices[index]
        if header.slope == 0:
            raise ReadError(header.path, "scales its values by 0", AGAIN, reason="scaling")
        dtypes.add(pixels.dtype)
        if len(dtypes) > 1:
            raise _mixed(folder, f"mixes signed and unsigned pixels ({header.name})")
        # One slope cannot scale slices that differ, so those are scaled here.
        plane[...] = pixels.view(np.uint16) if alike else pixels * header.slope + header.inter
    return (stack.view(*dtypes), first.slope, first.inter) if alike else (stack, 1.0, 0.0)


def _mixed(folder: Path, fact: str) -> ReadError:
    remedy = "pass a folder with one series of one acquisition"
    return ReadError(folder, fact, remedy, reason="mixed_series")
