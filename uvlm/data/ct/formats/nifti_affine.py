"""The affine of a NIfTI header, refused where two readers would disagree about it.

Other libraries prefer sform or qform by version and take the spacing from either; here all that a
header says about the grid has to agree to half a voxel over the whole volume.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import numpy as np

from uvlm.data.ct.formats.nifti import Header
from uvlm.data.ct.grid_rules import REWRITE, check_grid, check_spacing, geometry_error, same_place
from uvlm.data.ct.volume import Affine, spacing_of

_LPS_FROM_RAS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])
_UNIT_TOLERANCE: Final = 0.01  # of the length of a quaternion
_HALF_TURN: Final = 1e-7
_SPACING_TOLERANCE: Final = 0.01


def affine_of(header: Header, path: Path) -> Affine:
    """Index (z, y, x, 1) to LPS millimetres, from sform or qform, which have to agree."""
    check_spacing(header.pixdim[1:4], path)
    candidates = []
    if header.sform_code > 0:
        candidates.append(_lps(_sform(header)))
    if header.qform_code > 0:
        candidates.append(_lps(_qform(header, path)))
    if not candidates:
        raise geometry_error(
            path,
            "has neither sform nor qform, so left and right are unknown",
            "convert it again from the original DICOM, for example with dcm2niix",
            reason="no_orientation",
        )
    for affine in candidates:
        check_grid(affine, path)
        _check_lengths(affine, header, path)
    x, y, z = header.shape[:3]
    if not same_place(candidates[0], candidates[-1], (z, y, x)):
        raise geometry_error(
            path,
            "places the voxels differently by sform and by qform",
            f"find out which one is true, then {REWRITE}",
            reason="sform_and_qform",
        )
    return candidates[0]


def _lps(ras: Affine) -> Affine:
    """Turn a matrix for (x, y, z, 1) and RAS into one for (z, y, x, 1) and LPS."""
    lps: Affine = (_LPS_FROM_RAS @ ras)[:, [2, 1, 0, 3]]
    return lps


def _sform(header: Header) -> Affine:
    return np.vstack([np.asarray(header.srow, float).reshape(3, 4), [0.0, 0.0, 0.0, 1.0]])


def _qform(header: Header, path: Path) -> Affine:
    """Build the affine that the quaternion (a, b, c, d) describes."""
    b, c, d, *offset = header.quaternion
    rest = 1.0 - (b * b + c * c + d * d)
    if not rest > -_UNIT_TOLERANCE:
        raise geometry_error(path, f"has the quaternion ({b:g}, {c:g}, {d:g}), longer than 1")
    if rest < _HALF_TURN:  # float32 cannot tell: the square root would make a turn of rounding
        length = math.sqrt(b * b + c * c + d * d)
        a, b, c, d = 0.0, b / length, c / length, d / length
    else:
        a = math.sqrt(rest)
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


def _check_lengths(affine: Affine, header: Header, path: Path) -> None:
    """Hold pixdim against the affine, to half a voxel over the whole volume."""
    real = spacing_of(affine)[::-1]
    for length, stated, count in zip(real, header.pixdim[1:4], header.shape, strict=False):
        if abs(length - stated) > stated * min(_SPACING_TOLERANCE, 0.5 / count):
            texts = (
                " x ".join(f"{v:.6g}" for v in values) for values in (header.pixdim[1:4], real)
            )
            raise geometry_error(
                path,
                "states voxels of {} mm but its affine has {} mm".format(*texts),
                reason="spacing_and_affine",
            )
