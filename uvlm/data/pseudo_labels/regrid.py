"""Labels drawn on one grid, read at the voxels of another: the nearest, nothing interpolated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uvlm.data.volume import Affine, LabelMap


def regrid(labels: LabelMap, shape: Sequence[int], affine: Affine) -> LabelMap | None:
    """Give every voxel of a grid the id that lies at its centre, 0 outside of the labels.

    Args:
        labels: in any orientation and spacing.
        shape: (z, y, x) of the new grid.
        affine: its index to LPS millimetres.

    Returns:
        The labels on that grid; None when no voxel of it lies inside them.
    """
    there = np.linalg.solve(labels.affine, affine)  # index of the new grid to index of the labels
    size = np.array(labels.array.shape)[:, None]
    y, x = (axis.ravel() for axis in np.indices(tuple(shape[1:])))
    out = np.zeros((shape[0], y.size), np.uint8)
    touched = False
    for z, plane in enumerate(out):
        place = (there @ np.stack([np.full(y.size, z), y, x, np.ones(y.size)]))[:3]
        index = np.floor(np.round(place, 6) + 0.5).astype(np.intp)
        inside = ((index >= 0) & (index < size)).all(axis=0)
        k, j, i = index[:, inside]
        plane[inside] = labels.array[k, j, i]
        touched = touched or bool(inside.any())
    return LabelMap(out.reshape(tuple(shape)), affine) if touched else None
