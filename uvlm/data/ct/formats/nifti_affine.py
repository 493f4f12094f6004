"""The affine of a NIfTI header, refused where two readers would disagree about it.

Other libraries prefer sform or qform by version and take the spacing from either; here everything
that a header says about the grid must agree to half a voxel over the whole volume.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import numpy as np

from uvlm.data.ct.formats.nifti import Header, swap_convention
from uvlm.data.ct.formats.stored import FROM_DICOM
from uvlm.data.ct.grid_rules import REWRITE, check_grid, check_spacing, geometry_error, same_place
from uvlm.data.ct.volume import Affine, ReadError, spacing_of

_UNIT_TOLERANCE: Final = 0.01  # of the length of a quaternion
_HALF_TURN: Final = 1e-7
_SPACING_TOLERANCE: Final = 0.01


def affine_of(header: Header, path: Path) -> Affine:
    """Index (z, y, x, 1) to LPS millimetres, from sform or qform, which must agree."""
    check_spacing(header.pixdim[1:4], path)
    candidates = []
    if header.sform_code > 0:
        candidates.append(np.vstack([np.reshape(header.srow, (3, 4)), [0.0, 0.0, 0.0, 1.0]]))
    if header.qform_code > 0:
        candidates.append(_qform(header, path))
    if not candidates:
        fact = "has neither sform nor qform, so left and right are unknown"
        raise ReadError(path, fact, FROM_DICOM, reason="no_orientation")
    candidates = [swap_convention(affine) for affine in candidates]
    for affine in candidates:
        check_grid(affine, path)
        _check_lengths(affine, header, path)
    if not same_place(candidates[0], candidates[-1], header.layout.shape[2::-1]):
        fact = "places the voxels differently by sform and by qform"
        remedy = f"find out which one is true, then {REWRITE}"
        raise ReadError(path, fact, remedy, reason="sform_and_qform")
    return candidates[0]


def _qform(header: Header, path: Path) -> Affine:
    """Build the affine that the quaternion (a, b, c, d) describes."""
    b, c, d, *offset = header.quaternion
    square = b * b + c * c + d * d
    if not 1.0 - square > -_UNIT_TOLERANCE:  # also true for what is not a number
        raise geometry_error(path, f"has the quaternion ({b:g}, {c:g}, {d:g}), longer than 1")
    if 1.0 - square < _HALF_TURN:
        # float32 cannot tell this from 0, but its square root would be a turn that nobody meant.
        length = math.sqrt(square)
        a, b, c, d = 0.0, b / length, c / length, d / length
    else:
        a = math.sqrt(1.0 - square)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    # A rotation cannot mirror, so NIfTI keeps the sign of the third axis in pixdim[0].
    handedness = -1.0 if header.pixdim[0] < 0 else 1.0
    affine = np.eye(4)
    affine[:3, :3] = rotation * np.array(header.pixdim[1:4]) * [1.0, 1.0, handedness]
    affine[:3, 3] = offset
    return affine


def _check_lengths(affine: Affine, header: Header, path: Path) -> None:
    """Compare pixdim with the affine, to half a voxel over the whole volume."""
    real, stated = spacing_of(affine)[::-1], header.pixdim[1:4]
    for length, said, count in zip(real, stated, header.layout.shape, strict=False):
        if abs(length - said) > said * min(_SPACING_TOLERANCE, 0.5 / count):
            texts = [" x ".join(f"{v:.6g}" for v in values) for values in (stated, real)]
            fact = f"states voxels of {texts[0]} mm but its affine has {texts[1]} mm"
            raise ReadError(path, fact, REWRITE, reason="spacing_and_affine")
