"""Batches as pure functions of (seed, number), so that a resumed run sees the same ones.

Batches are a callable: number of the batch -> batch. Micro-batch m of step s on process r
of R has number (s * accumulate + m) * R + r.

B batch, (D, H, W) = (z, y, x), A abnormalities, K visual tokens, T text tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from uvlm.store import load_array, load_region
from uvlm.train.augmentation.pending import Pending

CACHE_BYTES = 512 * 2**20


class Inputs(Protocol):
    """Reads the images of chosen cases: augmented if there is a generator to draw from."""

    def __call__(self, chosen: Sequence[int], rng: np.random.Generator | None) -> Any:
        """Read, and leave what a GPU does faster for `finish`."""

    def finish(self, x: Any) -> Any:
        """Do on the device of `x` what was left."""


class SegBatch(NamedTuple):
    """Patches and their classes."""

    case_ids: list[str]
    x: Tensor  # (B, 1, D, H, W)
    target: Tensor  # (B, D, H, W) class ids


class UnfinishedBatch(NamedTuple):
    """Patches as they are stored, for a SegBatch to be made of on the device."""

    case_ids: list[str]
    items: list[Pending]


class ClsBatch(NamedTuple):
    """Volumes, unfinished or not, or cached deepest features, with their abnormalities."""

    case_ids: list[str]
    x: Any  # (B, 1, D, H, W) or (B, C, D, H, W) once it is finished
    abnormalities: Tensor  # (B, A) 0 or 1


class ReportBatch(NamedTuple):
    """Reports with aligned tokens (B, K, C_i), one per stage, or with volumes (B, 1, D, H, W)."""

    case_ids: list[str]
    x: Any  # volumes may be unfinished
    token_ids: Tensor  # (B, T), <bos> report <eos>, padded to the right
    weights: Tensor | None = None  # (B, T) of each token in the loss; None for equal ones


@dataclass(frozen=True, eq=False)
class Arrays:
    """Reads stored arrays; keeps them in memory if they are small enough together."""

    keep: bool
    kept: dict[Path, npt.NDArray[Any]] = field(default_factory=dict)

    @classmethod
    def sized(cls, num_bytes: int) -> Arrays:
        """Keep arrays if their total size is below the cache limit."""
        return cls(keep=num_bytes < CACHE_BYTES)

    def whole(self, path: Path) -> npt.NDArray[Any]:
        """Return the whole array; do not write to it."""
        if not self.keep:
            return load_array(path)
        if path not in self.kept:
            self.kept[path] = load_array(path)
        return self.kept[path]

    def region(self, path: Path, slices: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Return one region of the array."""
        return self.whole(path)[slices] if self.keep else load_region(path, slices)


@dataclass(frozen=True, eq=False)
class CaseSampler:
    """Draws cases: a share of them balanced by abnormality, the others uniformly.

    A balanced draw first picks an abnormality that some case shows, then a case that shows it.
    """

    abnormalities: npt.NDArray[np.int64]  # (N, A)
    balanced_fraction: float

    def draw(self, count: int, rng: np.random.Generator) -> list[int]:
        """Draw `count` indices of cases, with replacement."""
        shown = np.flatnonzero(self.abnormalities.any(axis=0))
        return [self._one(shown, rng) for _ in range(count)]

    def _one(self, shown: npt.NDArray[np.int64], rng: np.random.Generator) -> int:
        if shown.size and rng.random() < self.balanced_fraction:
            positives = np.flatnonzero(self.abnormalities[:, rng.choice(shown)])
            return int(rng.choice(positives))
        return int(rng.integers(len(self.abnormalities)))
