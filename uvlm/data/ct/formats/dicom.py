"""One CT series of a DICOM folder, ordered by position.

    files --read headers--> CT slices, by series --first by rank--> ordered along its normal
          --check grid--> decoded

A folder may hold localizers, other series, reports; what is read is named. Within the series
nothing is repaired: slices twice, missing, shifted or of another shape refuse it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.data.ct.formats.dicom_header import CtFile, SliceHeader, read_header, slice_header
from uvlm.data.ct.formats.dicom_pixels import read_pixels
from uvlm.data.ct.formats.stored import AGAIN, MIN_EDGE_VOXELS, StoredImage, volume_shape
from uvlm.data.ct.grid_rules import check_grid, geometry_error
from uvlm.data.ct.volume import Affine, ReadError

_NOT_IMAGES: Final = (".txt", ".md", ".json", ".xml", ".csv", ".html", ".pdf", ".png", ".jpg")
_TURNED: Final = 0.005  # between direction cosines of one series
_UNEVEN: Final = 0.25  # of the distance between slices
_TILT: Final = 0.01  # sine of the angle between the stack and the normal of its slices
_ONE_PLACE_MM: Final = 0.01


def read_series(folder: Path) -> StoredImage:
    """Read the CT series with most slices, original ones before derived ones."""
    series, others = _series_of(folder)
    chosen, why = _choose(series, others, folder)
    slices = [slice_header(file) for file in chosen]
    _check_alike(slices, folder)
    slices = _ordered(slices, folder)
    affine = _affine(slices, folder)
    check_grid(affine, folder)
    return replace(_decode(slices, folder), affine=affine, series=why)


def _series_of(folder: Path) -> tuple[list[list[CtFile]], Counter[str]]:
    """Read every header: CT images by series, and how many files of each other kind there are."""
    by_series: dict[str, list[CtFile]] = defaultdict(list)
    others: Counter[str] = Counter()
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.startswith("."):
            continue
        if path.suffix.lower() in _NOT_IMAGES:
            others[path.suffix.lower()] += 1
            continue
        file = read_header(path)
        if isinstance(file, str):
            others[file] += 1
        elif "LOCALIZER" in file.image_type:
            others["localizer"] += 1
        else:
            by_series[file.series].append(file)
    return list(by_series.values()), others


def _choose(
    series: Sequence[list[CtFile]], others: Counter[str], folder: Path
) -> tuple[list[CtFile], str]:
    """Take the first series by `_rank`, and say in words which one and what was left."""
    left = [f"{count} {kind}" for kind, count in sorted(others.items())]
    if not series:
        fact = f"holds no CT slices ({', '.join(left) or 'no files'})"
        remedy = "give the folder of an axial CT series"
        raise ReadError(folder, fact, remedy, reason="no_ct_series")
    chosen, *rest = sorted(series, key=_rank)
    left = [f"{len(files)} of series {files[0].number or files[0].series}" for files in rest] + left
    first = chosen[0]
    name = f"series {first.number}" if first.number else "a series without a number,"
    why = f"{name} {first.description!r} ({first.series}), {len(chosen)} slices"
    if rest:
        why += ", the original one with most" if "ORIGINAL" in first.image_type else ", the largest"
    return chosen, f"{why}; not read: {', '.join(left)}" if left else why


def _rank(files: Sequence[CtFile]) -> tuple[bool, bool, int, float, str]:
    """Order series: volumes before single images, originals before derived ones, large ones."""
    first = files[0]
    number = float(first.number) if first.number.lstrip("-").isdigit() else float("inf")
    derived = "ORIGINAL" not in first.image_type
    return len(files) < MIN_EDGE_VOXELS, derived, -len(files), number, first.series


def _check_alike(slices: Sequence[SliceHeader], folder: Path) -> None:
    """Every slice of one patient and frame, of one shape, spacing and direction."""
    first = slices[0]
    lengths = np.linalg.norm(np.reshape(first.orientation, (2, 3)), axis=1)
    if np.abs(lengths - 1).max() > _TURNED:
        raise geometry_error(folder, f"has directions of the lengths {lengths}, not 1")
    for name, what in (("patient", "patients"), ("frame", "frames of reference")):
        values = {getattr(header, name) for header in slices}
        if len(values) > 1:
            raise _mixed(folder, f"mixes {len(values)} {what} in one series")
    for header in slices[1:]:
        if (header.rows, header.columns) != (first.rows, first.columns):
            shapes = f"{first.rows} x {first.columns} and {header.rows} x {header.columns}"
            raise _mixed(folder, f"mixes slices of {shapes} ({header.path.name})")
        if np.abs(np.subtract(header.orientation, first.orientation)).max() > _TURNED:
            raise _mixed(folder, f"mixes slices of different directions ({header.path.name})")
        if not np.allclose(header.pixel_spacing, first.pixel_spacing, rtol=1e-3):
            raise _mixed(folder, f"mixes pixel spacings ({header.path.name})")


def _ordered(slices: Sequence[SliceHeader], folder: Path) -> list[SliceHeader]:
    """Order along the normal of the slices; every place is filled, and once."""
    volume_shape((slices[0].columns, slices[0].rows, len(slices)), folder)
    places = _places(slices)
    order = np.argsort(places, kind="stable")
    ordered, places = [slices[i] for i in order], places[order]
    gaps = np.diff(places)
    twice = np.flatnonzero(gaps < _ONE_PLACE_MM)
    if twice.size:
        names = f"{ordered[twice[0]].path.name} and {ordered[twice[0] + 1].path.name}"
        raise ReadError(
            folder,
            f"has {twice.size + 1} slices at places that are taken ({names})",
            "leave one copy, or one phase, in the folder",
            reason="duplicate_slices",
        )
    step = float(np.median(gaps))
    wide = np.flatnonzero(np.abs(gaps - step) > _UNEVEN * step)
    even = np.linspace(places[0], places[-1], len(places))
    if wide.size or np.abs(places - even).max() > _UNEVEN * step:
        at = wide[0] if wide.size else int(np.abs(places - even).argmax()) - 1
        raise ReadError(
            folder,
            f"has slices {step:g} mm apart, but {gaps[at]:g} mm after {ordered[at].path.name}",
            "export the whole series again: slices are missing or uneven",
            reason="missing_slices",
        )
    stated = ordered[0].slice_spacing
    if stated and abs(abs(stated) - step) > _UNEVEN * abs(stated):
        raise ReadError(
            folder,
            f"states {abs(stated):g} mm between slices, but they lie {step:g} mm apart",
            "export the whole series again: slices are missing",
            reason="missing_slices",
        )
    return ordered


def _affine(slices: Sequence[SliceHeader], folder: Path) -> Affine:
    """Index (z, y, x, 1) to LPS millimetres; the stack has to stand straight on its slices."""
    first, last = slices[0], slices[-1]
    along_row, along_column = np.reshape(first.orientation, (2, 3))
    rise = np.subtract(last.position, first.position) / (len(slices) - 1)
    normal = np.cross(along_row, along_column)
    shift = np.linalg.norm(rise - np.dot(rise, normal) * normal) / np.linalg.norm(rise)
    if shift > _TILT:
        angle = np.degrees(np.arcsin(min(1.0, float(shift))))
        raise geometry_error(
            folder,
            f"was taken with a tilted gantry ({angle:.1f} degrees)",
            "resample it to a straight grid, for example with dcm2niix",
            reason="gantry_tilt",
        )
    rows, columns = first.pixel_spacing
    return np.vstack(
        [
            np.column_stack([rise, along_column * rows, along_row * columns, first.position]),
            [0.0, 0.0, 0.0, 1.0],
        ]
    )


def _decode(slices: Sequence[SliceHeader], folder: Path) -> StoredImage:
    """Stack the stored values; where slices scale differently, they are scaled first."""
    scales = {(header.slope, header.inter) for header in slices}
    stack: npt.NDArray[Any] | None = None
    signed = False
    for number, header in enumerate(slices):
        pixels = read_pixels(header)
        if header.slope == 0:
            raise ReadError(header.path, "scales its values by 0", AGAIN, reason="scaling")
        if stack is None:
            dtype = pixels.dtype if len(scales) == 1 else np.dtype(np.float32)
            stack, signed = np.empty((len(slices), *pixels.shape), dtype), pixels.dtype.kind == "i"
        if signed != (pixels.dtype.kind == "i"):
            raise _mixed(folder, f"mixes signed and unsigned pixels ({header.path.name})")
        stack[number] = pixels if len(scales) == 1 else pixels * header.slope + header.inter
    assert stack is not None
    if len(scales) == 1:
        return StoredImage(stack, np.eye(4), slices[0].slope, slices[0].inter)
    return StoredImage(stack, np.eye(4))


def _places(slices: Sequence[SliceHeader]) -> npt.NDArray[np.float64]:
    """Where each slice lies along the normal of the first one, in millimetres."""
    along_row, along_column = np.reshape(slices[0].orientation, (2, 3))
    normal = np.cross(along_row, along_column)
    return np.array([float((normal * header.position).sum()) for header in slices])


def _mixed(folder: Path, fact: str) -> ReadError:
    remedy = "give a folder with one series of one acquisition"
    return ReadError(folder, fact, remedy, reason="mixed_series")
