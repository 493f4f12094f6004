"""The affine of a NIfTI header, refused where two readers would disagree about it.

Other libraries replace a zero spacing by 1 mm, prefer sform or qform by version, and shear or flip
in silence; here such a header is an error with its own reason.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import numpy as np

from uvlm.data.nifti import Header
from uvlm.data.volume import Affine, ReadError

_MIN_SPACING_MM, _MAX_SPACING_MM = 0.1, 20.0
_TOLERANCE: Final = 0.01  # of a voxel's edge, or of the cosine of a right angle
_LPS_FROM_RAS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])
_REWRITE: Final = "rewrite the header with the tool that made the file"


def affine_of(header: Header, path: Path) -> Affine:
    """Index (z, y, x, 1) to LPS millimetres, from sform or qform, which have to agree."""
    _check_spacing(header.pixdim[1:4], path)
    candidates = []
    if header.sform_code > 0:
        candidates.append(_sform(header))
    if header.qform_code > 0:
        candidates.append(_qform(header, path))
    if not candidates:
        raise _geometry_error(path, "has neither sform nor qform, so left and right are unknown")
    for affine in candidates:
        _check_axes(affine, header.pixdim[1:4], path)
    if not _same_grid(candidates[0], candidates[-1]):
        raise _geometry_error(path, "places the voxels differently by sform and by qform")
    lps: Affine = (_LPS_FROM_RAS @ candidates[0])[:, [2, 1, 0, 3]]
    return lps


def _sform(header: Header) -> Affine:
    return np.vstack([np.asarray(header.srow, float).reshape(3, 4), [0.0, 0.0, 0.0, 1.0]])


def _qform(header: Header, path: Path) -> Affine:
    """Build the affine that the quaternion (a, b, c, d) describes."""
    b, c, d, *offset = header.quaternion
    rest = 1.0 - (b * b + c * c + d * d)
    if not rest > -_TOLERANCE:
        raise _geometry_error(path, f"has the quaternion ({b}, {c}, {d}), longer than 1")
    a = math.sqrt(max(0.0, rest))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    handedness = -1.0 if header.pixdim[0] < 0 else 1.0
    affine = np.eye(4)
    affine[:3, :3] = rotation * np.array(header.pixdim[1:4]) * [1.0, 1.0, handedness]
    affine[:3, 3] = offset
    return affine


def _check_spacing(spacing: tuple[float, ...], path: Path) -> None:
    for value in spacing:
        if not _MIN_SPACING_MM <= abs(value) <= _MAX_SPACING_MM or value < 0:
            text = " x ".join(f"{v:g}" for v in spacing)
            raise ReadError(
                path,
                f"has a voxel size of {text} mm, outside "
                f"{_MIN_SPACING_MM:g} to {_MAX_SPACING_MM:g} mm",
                _REWRITE,
                reason="spacing",
            )


def _check_axes(affine: Affine, spacing: tuple[float, ...], path: Path) -> None:
    """Axes of the stated length at right angles to each other."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not np.allclose(lengths, spacing, rtol=_TOLERANCE):
        stated = " x ".join(f"{v:g}" for v in spacing)
        real = " x ".join(f"{v:g}" for v in lengths)
        raise _geometry_error(path, f"states voxels of {stated} mm but its affine has {real} mm")
    cosines = affine[:3, :3] / lengths
    if np.abs(cosines.T @ cosines - np.eye(3)).max() > _TOLERANCE:
        raise _geometry_error(path, "has axes that are not at right angles (a tilted gantry?)")


def _same_grid(one: Affine, other: Affine) -> bool:
    """Whether two affines agree to a hundredth of a voxel's edge and half a voxel in place."""
    edge = float(np.linalg.norm(one[:3, :3], axis=0).min())
    turned = np.abs(one[:3, :3] - other[:3, :3]).max()
    moved = np.abs(one[:3, 3] - other[:3, 3]).max()
    return bool(turned <= _TOLERANCE * edge and moved <= 0.5 * edge)


def _geometry_error(path: Path, fact: str) -> ReadError:
    return ReadError(path, fact, _REWRITE, reason="geometry")
