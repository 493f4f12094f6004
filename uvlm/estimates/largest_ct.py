"""The largest grid among many CTs, without reading their voxels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil, prod
from pathlib import Path
from typing import Final

from uvlm.config import Grid
from uvlm.data.ct.io import NIFTI, read_grid
from uvlm.data.sets.raw import bytes_on_hub, noted_grid
from uvlm.errors import DataError
from uvlm.store import Row

_LOOKED_AT: Final = 5
_PLANE: Final = 512 * 512
_COMPRESSION: Final = 3  # of a CT that is packed in its file
# CT-RATE has about three: 12 TB in 50,188 volumes of some 80 million voxels.
_FEWEST_BYTES_PER_VOXEL: Final = 2.0


def largest_grid(cts: Iterable[Path]) -> Grid:
    """Find the largest (z, y, x) among the CTs that take most room on disk."""
    sizes = {path: _bytes_on_disk(path) for path in cts}
    return max((_grid(path, sizes[path]) for path in _largest(sizes)), key=prod)


def largest_of_index(rows: Iterable[Row], root: Path) -> Grid:
    """Find the largest (z, y, x) among the CTs of an index, whether the store keeps them or not.

    Of a CT that is left on the hub, the first fetch has noted the grid. Before that, it is taken
    for planes of 512 x 512 that fill its file as densely as in the CTs that are known.
    """
    rows_by_path = {root / row.path: row for row in rows}
    kept = {path: size for path in rows_by_path if (size := _bytes_on_disk(path))}
    left = {p: bytes_on_hub(row, root) for p, row in rows_by_path.items() if p not in kept}
    known = {path: _grid(path, kept[path]) for path in _largest(kept)}
    known |= {path: grid for path in _largest(left) if (grid := _noted(path))}
    known = {path: grid for path, grid in known.items() if prod(grid) > 1}
    density = _FEWEST_BYTES_PER_VOXEL
    if known:
        density = sum((kept | left)[path] for path in known) / sum(map(prod, known.values()))
    planes = (left[path] / density / _PLANE for path in _largest(left) if path not in known)
    guessed = [(ceil(number), 512, 512) for number in planes]
    return max([*known.values(), *guessed], key=prod, default=(1, 1, 1))


def _largest(num_bytes: Mapping[Path, int]) -> list[Path]:
    return sorted(num_bytes, key=num_bytes.__getitem__, reverse=True)[:_LOOKED_AT]


def _grid(path: Path, num_bytes: int) -> Grid:
    """Read a NIfTI's header; take other formats for planes of 512 x 512 that fill their file."""
    if path.name.lower().endswith(NIFTI):
        try:
            z, y, x = read_grid(path)[0]
        except DataError:  # the stage will refuse it by name
            return 1, 1, 1
        return z, y, x
    times = 1 if path.is_dir() else _COMPRESSION
    return ceil(times * num_bytes / (2 * _PLANE)), 512, 512


def _noted(path: Path) -> Grid | None:
    if (noted := noted_grid(path)) is None:
        return None
    z, y, x = noted[0]
    return z, y, x


def _bytes_on_disk(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.exists() else 0
