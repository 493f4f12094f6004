"""Place a training patch: anywhere in the volume, or around a voxel of a chosen class.

(D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from uvlm.config import Grid
from uvlm.data.label_scheme import IGNORE_ID

LESION_SHARE = 0.5
Slices = tuple[slice, slice, slice]


def random_patch(shape: Grid, patch: Grid, rng: np.random.Generator) -> Slices:
    """Place a patch anywhere in the volume, every position equally likely."""
    room = [size - edge + 1 for size, edge in zip(shape, patch, strict=True)]
    starts = [int(rng.integers(0, positions)) for positions in room]
    return _slices(starts, patch)


def patch_around(voxel: Grid, shape: Grid, patch: Grid, rng: np.random.Generator) -> Slices:
    """Place a patch so that it holds `voxel`, off its centre by up to a quarter of the edge."""
    # Always centred, a network could learn that the middle is abnormal.
    starts = []
    for position, size, edge in zip(voxel, shape, patch, strict=True):
        jitter = int(rng.integers(-(edge // 4), edge // 4 + 1))
        starts.append(int(np.clip(position - edge // 2 + jitter, 0, size - edge)))
    return _slices(starts, patch)


def choose_class(
    voxels_by_class: Mapping[int, int],
    rarity: npt.NDArray[np.float64],
    lesion_ids: Collection[int],
    rng: np.random.Generator,
) -> int | None:
    """Choose a foreground class of this case, or None if it has none.

    In a case with lesions one of them, each equally likely, is chosen half of the time; otherwise
    anatomy is drawn in proportion to `rarity`, so small organs come as often as their
    cross-entropy weight says.

    Args:
        voxels_by_class: voxel counts of the case's label map; IGNORE_ID is never chosen.
        rarity: (C,) weight of each class.
        lesion_ids: classes that are lesions.
        rng: source of the draw.
    """
    known = (c for c, voxels in sorted(voxels_by_class.items()) if voxels > 0 and c != IGNORE_ID)
    present = [c for c in known if c > 0]
    lesions = [c for c in present if c in lesion_ids]
    anatomy = [c for c in present if c not in lesion_ids]
    coin = rng.random()
    if lesions and (coin < LESION_SHARE or not anatomy):
        return int(rng.choice(lesions))
    if not anatomy:
        return None
    weights = rarity[anatomy]
    return int(rng.choice(anatomy, p=weights / weights.sum()))


def random_voxel(label_map: npt.NDArray[np.uint8], class_id: int, rng: np.random.Generator) -> Grid:
    """Draw a voxel of the class, all equally likely; the class must be present."""
    places = np.flatnonzero(label_map == class_id)
    z, y, x = np.unravel_index(int(rng.choice(places)), label_map.shape)
    return int(z), int(y), int(x)


def _slices(starts: list[int], patch: Grid) -> Slices:
    z, y, x = (slice(start, start + edge) for start, edge in zip(starts, patch, strict=True))
    return z, y, x
