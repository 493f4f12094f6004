"""The largest grid among many CTs, without reading their voxels."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Final

from uvlm.config import Grid
from uvlm.data.ct.io import NIFTI, read_grid
from uvlm.errors import DataError

_LOOKED_AT: Final = 5
_PLANE: Final = 512 * 512
_COMPRESSION: Final = 3  # of a CT that is packed in its file


def largest_grid(cts: Sequence[Path]) -> Grid:
    """Find the largest (z, y, x) among the CTs that take most room on disk."""
    largest = sorted(cts, key=_bytes_on_disk, reverse=True)[:_LOOKED_AT]
    return max((_grid(path) for path in largest), key=lambda grid: grid[0] * grid[1] * grid[2])


def _grid(path: Path) -> Grid:
    """Read a NIfTI's header; take other formats for planes of 512 x 512 that fill their file."""
    if path.name.lower().endswith(NIFTI):
        try:
            z, y, x = read_grid(path)[0]
        except DataError:  # the stage will refuse it by name
            return 1, 1, 1
        return z, y, x
    times = 1 if path.is_dir() else _COMPRESSION
    return ceil(times * _bytes_on_disk(path) / (2 * _PLANE)), 512, 512


def _bytes_on_disk(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.exists() else 0
