"""Batches of stages 1 and 2: number of the batch -> patches or whole volumes.

B batch, (D, H, W) = (z, y, x), C classes, A abnormalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from uvlm.arrays import Counts, Floats, Ids, Voxels
from uvlm.config import AugmentConfig, PreprocessConfig, TrainSegConfig
from uvlm.data.contract import normalise
from uvlm.data.examples import Example
from uvlm.errors import DataError
from uvlm.seeding import generator
from uvlm.train.augmentation import patches
from uvlm.train.augmentation.augment import augment_intensity, augment_volume, draw_roll, roll
from uvlm.train.augmentation.spatial import draw_warp, middle
from uvlm.train.batches import Arrays, CaseSampler, ClsBatch, Inputs, SegBatch


def read_voxels(
    example: Example, arrays: Arrays, config: PreprocessConfig, slices: patches.Slices | None = None
) -> Voxels:
    """Read the normalised voxels of a case, or of one region of it."""
    path = example.volume
    array = arrays.whole(path) if slices is None else arrays.region(path, slices)
    return normalise(array, config, example.statistics)


def case_sampler(examples: Sequence[Example], balanced_fraction: float) -> CaseSampler:
    """Make a sampler of these cases."""
    return CaseSampler(abnormality_table(examples), balanced_fraction)


def abnormality_table(examples: Sequence[Example]) -> Counts:
    """Stack the flags of the cases: (N, A) zeros and ones."""
    return np.array([example.case.abnormalities for example in examples], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class SegBatches:
    """Patches of stage 1: anywhere, or around a voxel of a class, favouring rare classes."""

    examples: Sequence[Example]
    arrays: Arrays
    preprocess: PreprocessConfig
    config: TrainSegConfig
    sampler: CaseSampler
    rarity: Floats  # (C,)
    lesion_ids: frozenset[int]
    seed: int

    def __call__(self, index: int) -> SegBatch:
        rng = generator(self.seed, "seg", index)
        drawn = [self.examples[i] for i in self.sampler.draw(self.config.batch_size, rng)]
        pairs = [self._patch(example, rng) for example in drawn]
        return SegBatch(
            [example.case_id for example in drawn],
            torch.from_numpy(np.stack([x for x, _ in pairs])[:, None]),
            torch.from_numpy(np.stack([labels for _, labels in pairs])),
        )

    def _patch(self, example: Example, rng: np.random.Generator) -> tuple[Voxels, Ids]:
        """Draw augmented voxels and their classes."""
        if example.label_map is None:
            raise DataError(example.case_id, "has no label map", "run `dvc repro label_maps`")
        augment = self.config.augment
        # The warp is drawn first and says which box to read: a turned patch shows what is there,
        # and only the box is decompressed.
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
    ) -> tuple[patches.Slices, Floats]:
        """Choose a patch, and the point that keeps its place when the patch is turned or scaled."""
        patch = self.config.patch
        if rng.random() < self.config.foreground_fraction:
            counts = example.voxels_by_class
            chosen = patches.choose_class(counts, self.rarity, self.lesion_ids, rng)
            if chosen is not None:
                voxel = patches.random_voxel(self.arrays.whole(label_map), chosen, rng)
                slices = patches.patch_around(voxel, example.shape, patch, rng)
                return slices, np.array(voxel, dtype=np.float64)
        slices = patches.random_patch(example.shape, patch, rng)
        return slices, middle(slices)


@dataclass(frozen=True, eq=False)
class VolumeInputs:
    """Whole volumes (B, 1, D, H, W) of chosen cases, augmented if there is a generator."""

    examples: Sequence[Example]
    arrays: Arrays
    preprocess: PreprocessConfig
    augment: AugmentConfig

    def __call__(self, chosen: Sequence[int], rng: np.random.Generator | None) -> Tensor:
        volumes = [read_voxels(self.examples[i], self.arrays, self.preprocess) for i in chosen]
        if rng is not None:
            volumes = [augment_volume(x, self.augment, rng) for x in volumes]
        return torch.from_numpy(np.stack(volumes)[:, None])


@dataclass(frozen=True, eq=False)
class ClsBatches:
    """Images with their abnormalities, for stage 2; `name` keeps two trainings' draws apart."""

    name: str
    examples: Sequence[Example]
    inputs: Inputs
    sampler: CaseSampler
    batch_size: int
    seed: int

    def __call__(self, index: int) -> ClsBatch:
        rng = generator(self.seed, self.name, index)
        chosen = self.sampler.draw(self.batch_size, rng)
        truth = torch.from_numpy(self.sampler.abnormalities[chosen].astype(np.float32))
        case_ids = [self.examples[i].case_id for i in chosen]
        return ClsBatch(case_ids, self.inputs(chosen, rng), truth)
