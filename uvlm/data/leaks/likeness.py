"""What an image looks like, small enough to compare every case of a data set with every other.

    volume --anti-aliased--> 10 x 10 x 10 --inner--> 8 x 8 x 8 --own mean 0, spread 1--> int8

The distance of two likenesses is their root mean square difference, in units of their own spread,
for the best of the 48 ways to permute and flip the axes. Noise, kernels, spacing, headers, names,
rescaled values and resampling hardly move a likeness; another patient does. The outer shell is left
out because resampling tools disagree about what lies beyond the border.

N images. Everything stored or compared is a whole number, so machines cannot differ.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from itertools import permutations, product
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.data.ct.resample import Axis, resample_image

_SIDE: Final = 8
_CLIP_HU: Final = (-1024, 1023)
_SCALE: Final = 40  # steps per unit of spread
_BLOCK: Final = 1024

Likenesses = npt.NDArray[np.int8]  # (N, 8, 8, 8)


def likeness_of(array: npt.NDArray[Any]) -> str:
    """Describe a (z, y, x) volume of any size in 684 characters."""
    side = _SIDE + 2
    axes = [Axis(size, side, size / side) for size in array.shape]
    cells = resample_image(array, axes, _CLIP_HU)[1:-1, 1:-1, 1:-1].astype(np.int64)
    # Python integers: exact sums, and a variance without cancellation.
    total, squares, count = int(cells.sum()), int(np.square(cells).sum()), cells.size
    spread = np.sqrt((squares * count - total * total) / (count * count))
    # Without mean and spread, rescaled Hounsfield units look the same; an empty CT has no spread.
    steps = np.rint(_SCALE * (cells - total / count) / max(spread, 1.0))
    return base64.b64encode(np.clip(steps, -127, 127).astype(np.int8).tobytes()).decode("ascii")


def decode(texts: Sequence[str]) -> Likenesses:
    """Read what `likeness_of` wrote."""
    raw = b"".join(base64.b64decode(text) for text in texts)
    return np.frombuffer(raw, np.int8).reshape(-1, _SIDE, _SIDE, _SIDE)


def nearest(
    ones: Likenesses, others: Likenesses
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Find for each of `ones` the distance to the nearest of `others`, and its index."""
    # (N, 512). Sums of products of such whole numbers stay below 2**24, where float32 is exact.
    flat = others.reshape(len(others), -1).astype(np.float32)
    norms = np.square(flat).sum(axis=1)
    best = np.full(len(ones), np.inf)
    index = np.zeros(len(ones), np.intp)
    for start in range(0, len(ones), _BLOCK):  # (block, others) fits into memory, (N, N) may not
        part = slice(start, start + _BLOCK)
        for turned in _orientations(ones[part]):
            rows = turned.reshape(len(turned), -1).astype(np.float32)
            # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b: one matrix product instead of all differences.
            squares = np.square(rows).sum(axis=1)[:, None] + norms - 2 * rows @ flat.T
            column = squares.argmin(axis=1)
            least = np.take_along_axis(squares, column[:, None], axis=1)[:, 0]
            closer = least < best[part]  # than in the orientations before
            best[part][closer], index[part][closer] = least[closer], column[closer]
    return np.sqrt(best / _SIDE**3) / _SCALE, index


def _orientations(cubes: Likenesses) -> Iterator[Likenesses]:
    """Permute and flip the axes in all 48 ways."""
    for axes in permutations((1, 2, 3)):
        turned = cubes.transpose(0, *axes)
        for z, y, x in product((1, -1), repeat=3):
            yield turned[:, ::z, ::y, ::x]
