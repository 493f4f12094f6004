"""What a grid of voxels must be, whatever file it comes from.

Other libraries replace a zero spacing by 1 mm and shear or turn in silence; here such a grid is an
error with its own reason. Affines map an index (z, y, x, 1) to LPS millimetres.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from uvlm.data.ct.volume import Affine, LabelMap, ReadError, spacing_of

REWRITE: Final = "rewrite the header with the tool that made the file"
_MIN_SPACING_MM, _MAX_SPACING_MM = 0.1, 20.0
MAX_MM: Final = 1e6
_MAX_COSINE: Final = 0.01  # between axes that should be at right angles
_MAX_TURN_DEGREES: Final = 15.0
_MAX_SHIFT: Final = 0.5  # voxels


def check_grid(affine: Affine, path: Path) -> None:
    """Refuse a grid with impossible voxels, or axes that are skewed or turned away."""
    if not (np.abs(affine) <= MAX_MM).all():  # also false for NaN
        raise geometry_error(path, "has an affine with values that no scanner gives")
    spacing = spacing_of(affine)
    check_spacing(spacing, path)
    cosines = affine[:3, :3] / spacing
    # Off the diagonal of C^T C are the cosines between the axes: all 0 at right angles.
    if np.abs(cosines.T @ cosines - np.eye(3)).max() > _MAX_COSINE:
        fact = "has axes that are not at right angles (a tilted gantry?)"
        remedy = "resample it to a straight grid, for example with dcm2niix or SimpleITK"
        raise ReadError(path, fact, remedy, reason="sheared")
    # The largest cosine of an axis is with the patient's axis it is nearest to.
    turn = float(np.degrees(np.arccos(np.clip(np.abs(cosines).max(axis=0).min(), 0, 1))))
    if turn > _MAX_TURN_DEGREES:
        most = f"{_MAX_TURN_DEGREES:g}"
        fact = f"has axes turned by {turn:.0f} degrees against the patient, more than {most}"
        remedy = "pass the axial series, or resample it to the patient's axes"
        raise ReadError(path, fact, remedy, reason="oblique")


def check_spacing(spacing: Sequence[float], path: Path) -> None:
    """Refuse voxel sizes that no CT has: zero, negative, not a number, absurd."""
    if not all(_MIN_SPACING_MM <= value <= _MAX_SPACING_MM for value in spacing):
        text = " x ".join(f"{value:g}" for value in spacing)
        limits = f"{_MIN_SPACING_MM:g} to {_MAX_SPACING_MM:g} mm"
        fact = f"has a voxel size of {text} mm, outside {limits}"
        raise ReadError(path, fact, REWRITE, reason="spacing")


def same_place(one: Affine, other: Affine, shape: Sequence[int]) -> bool:
    """Whether two affines place every corner of a volume (z, y, x) within half a voxel."""
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return False
    # The corners are enough: the distance between two affine maps is largest at one of them.
    corners = np.array([*itertools.product(*((0.0, length - 1.0) for length in shape))])  # (8, 3)
    there = np.column_stack([corners, np.ones(len(corners))]) @ other.T
    back = np.linalg.solve(one, there.T).T[:, :3]  # in voxels of `one`
    return bool(np.abs(back - corners).max() <= _MAX_SHIFT)


def is_on_grid(labels: LabelMap, shape: Sequence[int], affine: Affine) -> bool:
    """Whether labels lie on the voxels of a grid (z, y, x): the one rule for every comparison."""
    return labels.array.shape == tuple(shape) and same_place(affine, labels.affine, shape)


def geometry_error(path: Path, fact: str) -> ReadError:
    """Refuse a grid for no more specific reason."""
    return ReadError(path, fact, REWRITE, reason="geometry")
