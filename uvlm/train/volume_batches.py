"""Batches of stages 1 and 2: number of the batch -> patches or whole volumes.

B batch, (D, H, W) = (z, y, x), C classes, A abnormalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from uvlm.arrays import Voxels
from uvlm.config import PreprocessConfig, TrainConfig, TrainSegConfig
from uvlm.data.contract import normalise
from uvlm.data.examples import Example
from uvlm.errors import ConfigError, DataError
from uvlm.seeding import generator
from uvlm.train.augmentation.augment import augment_intensity, augment_volume, draw_roll, roll
from uvlm.train.augmentation.patches import (
    Slices,
    choose_class,
    patch_around,
    random_patch,
    random_voxel,
)
from uvlm.train.augmentation.spatial import draw_warp, middle
from uvlm.train.batches import Arrays, CaseSampler, ClsBatch, SegBatch


def read_voxels(
    example: Example, arrays: Arrays, config: PreprocessConfig, slices: Slices | None = None
) -> Voxels:
    """Read the normalised voxels of a case, or of one region of it."""
    path = example.volume
    array = arrays.whole(path) if slices is None else arrays.region(path, slices)
    return normalise(array, config, example.statistics)


def case_sampler(examples: Sequence[Example], balanced_fraction: float) -> CaseSampler:
    """Draws from these cases."""
    return CaseSampler(abnormality_table(examples), balanced_fraction)


def abnormality_table(examples: Sequence[Example]) -> npt.NDArray[np.int64]:
    """(N, A) zeros and ones, one row per case."""
    return np.array([example.case.abnormalities for example in examples], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class SegBatches:
    """Patches of stage 1: anywhere, or around a voxel of a class that is often a rare one."""

    examples: Sequence[Example]
    arrays: Arrays
    preprocess: PreprocessConfig
    config: TrainSegConfig
    sampler: CaseSampler
    rarity: npt.NDArray[np.float64]  # (C,)
    lesion_ids: frozenset[int]
    seed: int

    def __post_init__(self) -> None:
        grid = self.preprocess.grid
        if any(edge > size for edge, size in zip(self.config.patch, grid, strict=True)):
            raise ConfigError(
                "train_seg.patch",
                f"{list(self.config.patch)} exceeds preprocess.grid {list(grid)}",
                "use a smaller patch",
            )

    def __call__(self, index: int) -> SegBatch:
        rng = generator(self.seed, "seg", index)
        drawn = [self.examples[i] for i in self.sampler.draw(self.config.batch_size, rng)]
        pairs = [self._patch(example, rng) for example in drawn]
        return SegBatch(
            [example.case.case_id for example in drawn],
            torch.from_numpy(np.stack([x for x, _ in pairs])[:, None]),
            torch.from_numpy(np.stack([labels for _, labels in pairs])),
        )

    def _patch(
        self, example: Example, rng: np.random.Generator
    ) -> tuple[Voxels, npt.NDArray[np.uint8]]:
        """Augmented voxels and their classes."""
        if example.label_map is None:
            raise DataError(example.case.case_id, "has no label map", "run `dvc repro label_maps`")
        augment = self.config.augment
        slices, about = self._place(example, example.label_map, rng)
        warp = draw_warp(augment.spatial, slices, example.shape, rng, about)
        box = slices if warp is None else warp.box
        x = read_voxels(example, self.arrays, self.preprocess, box)
        labels = self.arrays.region(example.label_map, box)
        if warp is not None:
            x, labels = warp.image(x), warp.labels(labels)
        shift = draw_roll(augment, rng)
        x, labels = roll(x, shift), roll(labels, shift)
        return augment_intensity(x, augment, rng), np.ascontiguousarray(labels)

    def _place(
        self, example: Example, label_map: Path, rng: np.random.Generator
    ) -> tuple[Slices, npt.NDArray[np.float64]]:
        """Choose a patch, and the point that stays in place if the patch is turned or scaled."""
        patch = self.config.patch
        if rng.random() < self.config.foreground_fraction:
            chosen = choose_class(example.voxels_by_class, self.rarity, self.lesion_ids, rng)
            if chosen is not None:
                voxel = random_voxel(self.arrays.whole(label_map), chosen, rng)
                slices = patch_around(voxel, example.shape, patch, rng)
                return slices, np.array(voxel, dtype=np.float64)
        slices = random_patch(example.shape, patch, rng)
        return slices, middle(slices)


@dataclass(frozen=True, eq=False)
class VolumeBatches:
    """Whole volumes with their abnormalities, for stage 2."""

    examples: Sequence[Example]
    arrays: Arrays
    preprocess: PreprocessConfig
    config: TrainConfig
    sampler: CaseSampler
    seed: int

    def __call__(self, index: int) -> ClsBatch:
        rng = generator(self.seed, "cls", index)
        chosen = self.sampler.draw(self.config.batch_size, rng)
        x = np.stack([self._volume(self.examples[i], rng) for i in chosen])[:, None]
        return ClsBatch(
            [self.examples[i].case.case_id for i in chosen],
            torch.from_numpy(x),
            torch.from_numpy(self.sampler.abnormalities[chosen].astype(np.float32)),
        )

    def _volume(self, example: Example, rng: np.random.Generator) -> Voxels:
        x = read_voxels(example, self.arrays, self.preprocess)
        return augment_volume(x, self.config.augment, rng)
