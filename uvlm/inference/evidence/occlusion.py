"""How much a probability falls when a block of the CT is covered: a map of what it rests on.

A covered block takes the median of the voxels around it, so that it looks like its surroundings.
Blocks do not overlap; one pass of the encoder covers one block and serves every abnormality.

A abnormalities, (D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise, product
from typing import Final

import numpy as np

from uvlm.arrays import Array, Floats, Voxels

BLOCKS_PER_AXIS: Final = 5
MOST_VOXELS: Final = 2**18  # of a grid whose blocks are covered within a minute on a CPU
_RIM: Final = 2  # voxels around a block that decide what it is covered with
_BATCH_VOXELS: Final = 2**20
Block = tuple[slice, slice, slice]


def occlusion(
    voxels: Voxels, logits_of: Callable[[Voxels], Floats], per_axis: int = BLOCKS_PER_AXIS
) -> Floats:
    """Measure the fall of every logit for every covered block.

    Args:
        voxels: what the network sees, (D, H, W).
        logits_of: the logits (B, A) of a batch (B, D, H, W).
        per_axis: blocks along each axis.

    Returns:
        The fall of every logit, negative if it rose, on the grid of the blocks: (A, z, y, x).
    """
    before = logits_of(voxels[None])[0]
    blocks = list(blocks_of(voxels.shape, per_axis))
    found: list[Floats] = []
    size = max(1, _BATCH_VOXELS // voxels.size)
    for start in range(0, len(blocks), size):
        batch = blocks[start : start + size]
        found.extend(before - logits_of(np.stack([covered(voxels, block) for block in batch])))
    return np.stack(found, -1).reshape(-1, *(min(n, per_axis) for n in voxels.shape))


def blocks_of(shape: tuple[int, ...], per_axis: int) -> Iterator[Block]:
    """Cut a grid into blocks that cover it once."""
    edges = [np.linspace(0, n, min(n, per_axis) + 1).round().astype(int) for n in shape]
    z, y, x = ([slice(int(a), int(b)) for a, b in pairwise(e)] for e in edges)
    yield from product(z, y, x)


def covered(voxels: Array, block: Block) -> Array:
    """Copy a volume with one block replaced by the median of the voxels around it."""
    wide = tuple(slice(max(0, s.start - _RIM), s.stop + _RIM) for s in block)
    around = np.ones(voxels.shape, bool)
    around[block] = False
    result = voxels.copy()
    result[block] = np.median(voxels[wide][around[wide]])
    return result
