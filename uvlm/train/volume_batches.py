"""Batches of stages 1 and 2: number of the batch -> patches or whole volumes.

B batch, (D, H, W) = (z, y, x), C classes, A abnormalities.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from uvlm.train.augmentation.augment import draw_roll
from uvlm.train.augmentation.pending import Pending
from uvlm.train.augmentation.spatial import draw_warp, middle
from uvlm.train.batches import Arrays, CaseSampler, ClsBatch, Inputs, SegBatch, UnfinishedBatch


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
    """Patches of stage 1: anywhere, or around a voxel of a class, favouring rare classes.

    For a GPU (`on_device`) a batch is unfinished until `finish`.
    """

    examples: Sequence[Example]
    arrays: Arrays
    preprocess: PreprocessConfig
    config: TrainSegConfig
    sampler: CaseSampler
    rarity: Floats  # (C,)
    lesion_ids: frozenset[int]
    seed: int
    on_device: bool = False

    def __call__(self, index: int) -> SegBatch:
        return self.finish(self.read(index))

    def read(self, index: int) -> SegBatch | UnfinishedBatch:
        """Draw and read batch number `index`."""
        rng = generator(self.seed, "seg", index)
        drawn = [self.examples[i] for i in self.sampler.draw(self.config.batch_size, rng)]
        case_ids = [example.case_id for example in drawn]
        if self.on_device:
            return UnfinishedBatch(case_ids, [self._patch(each, rng).keyed(rng) for each in drawn])
        # One stream for the whole batch: what an item draws depends on what those before it drew.
        return _stacked(case_ids, (self._finished(self._patch(each, rng), rng) for each in drawn))

    def finish(self, batch: SegBatch | UnfinishedBatch) -> SegBatch:
        """Augment on the device of the batch what the loader left for it."""
        if isinstance(batch, SegBatch):
            return batch
        return _stacked(batch.case_ids, map(self._finished, batch.items))

    def _finished(
        self, item: Pending, rng: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return item.varied(self.preprocess, self.config.augment, rng), item.classes()

    def _patch(self, example: Example, rng: np.random.Generator) -> Pending:
        """Draw a patch and how it is turned and moved."""
        if example.label_map is None:
            raise DataError(example.case_id, "has no label map", "run `dvc repro label_maps`")
        augment = self.config.augment
        # The warp is drawn first and says which box to read: a turned patch shows what is there,
        # and only the box is decompressed.
        slices, about, whole = self._place(example, example.label_map, rng)
        warp = draw_warp(augment.spatial, slices, example.shape, rng, about)
        box = slices if warp is None else warp.box
        labels = self.arrays.region(example.label_map, box) if whole is None else whole[box]
        return Pending(
            torch.from_numpy(np.ascontiguousarray(self.arrays.region(example.volume, box))),
            example.statistics,
            torch.from_numpy(np.ascontiguousarray(labels)),
            None if warp is None else warp.sampling,
            draw_roll(augment, rng),
        )

    def _place(
        self, example: Example, label_map: Path, rng: np.random.Generator
    ) -> tuple[patches.Slices, Floats, Ids | None]:
        """Choose a patch, and the point that keeps its place when the patch is turned or scaled.

        The whole label map comes along if it had to be read for that.
        """
        patch = self.config.patch
        if rng.random() < self.config.foreground_fraction:
            counts = example.voxels_by_class
            chosen = patches.choose_class(counts, self.rarity, self.lesion_ids, rng)
            if chosen is not None:
                whole = self.arrays.whole(label_map)
                voxel = patches.random_voxel(whole, chosen, rng)
                slices = patches.patch_around(voxel, example.shape, patch, rng)
                return slices, np.array(voxel, dtype=np.float64), whole
        slices = patches.random_patch(example.shape, patch, rng)
        return slices, middle(slices), None


def _stacked(case_ids: list[str], pairs: Iterable[tuple[Tensor, Tensor]]) -> SegBatch:
    x, target = zip(*pairs, strict=True)
    return SegBatch(case_ids, torch.stack(x)[:, None], torch.stack(target))


@dataclass(frozen=True, eq=False)
class VolumeInputs:
    """Whole volumes (B, 1, D, H, W) of chosen cases, augmented if there is a generator.

    For a GPU (`on_device`) they are unfinished until `finish`.
    """

    examples: Sequence[Example]
    arrays: Arrays
    preprocess: PreprocessConfig
    augment: AugmentConfig
    on_device: bool = False

    def __call__(
        self, chosen: Sequence[int], rng: np.random.Generator | None
    ) -> Tensor | list[Pending]:
        if self.on_device:
            items = (self._volume(i, rng) for i in chosen)
            return [item if rng is None else item.keyed(rng) for item in items]
        return _volumes(self._finished(self._volume(i, rng), rng) for i in chosen)

    def finish(self, x: Tensor | list[Pending]) -> Tensor:
        """Augment on their device the volumes that the loader left for it."""
        return x if isinstance(x, Tensor) else _volumes(map(self._finished, x))

    def _finished(self, item: Pending, rng: np.random.Generator | None = None) -> Tensor:
        return item.varied(self.preprocess, self.augment, rng)

    def _volume(self, number: int, rng: np.random.Generator | None) -> Pending:
        """Read a volume, and draw how it is turned and moved."""
        example = self.examples[number]
        voxels = self.arrays.whole(example.volume)
        if rng is None:
            return Pending(torch.from_numpy(voxels), example.statistics)
        z, y, x = example.shape
        whole = (slice(0, z), slice(0, y), slice(0, x))
        warp = draw_warp(self.augment.spatial, whole, example.shape, rng)
        return Pending(
            torch.from_numpy(voxels if warp is None else np.ascontiguousarray(voxels[warp.box])),
            example.statistics,
            sampling=None if warp is None else warp.sampling,
            shift=draw_roll(self.augment, rng),
        )


def _volumes(volumes: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(volumes))[:, None]


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
        return self.finish(self.read(index))

    def read(self, index: int) -> ClsBatch:
        """Draw and read batch number `index`."""
        rng = generator(self.seed, self.name, index)
        chosen = self.sampler.draw(self.batch_size, rng)
        truth = torch.from_numpy(self.sampler.abnormalities[chosen].astype(np.float32))
        case_ids = [self.examples[i].case_id for i in chosen]
        return ClsBatch(case_ids, self.inputs(chosen, rng), truth)

    def finish(self, batch: ClsBatch) -> ClsBatch:
        """Augment on the device of the batch what the loader left for it."""
        return batch._replace(x=self.inputs.finish(batch.x))
