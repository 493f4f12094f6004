"""Augmenting one patch: nnU-Net's default transforms against ours with the same settings."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from time import process_time
from typing import Any

import numpy as np
import torch

from benchmarks.ratios import Ratio
from benchmarks.sizes import Size
from uvlm.arrays import Ids, Voxels
from uvlm.config import AugmentConfig, Grid
from uvlm.seeding import generator
from uvlm.train.augmentation.augment import augment_intensity
from uvlm.train.augmentation.patches import Slices
from uvlm.train.augmentation.spatial import draw_warp

ROTATION, BLOCK = 30.0, 16


def volume(grid: Grid, num_labels: int) -> tuple[Voxels, Ids]:
    """Draw voxels, and labels in blocks so that a patch holds all of them."""
    rng = generator(0, "augmentation")
    shape = [-(-edge // BLOCK) for edge in grid]
    blocks = rng.permutation(np.resize(np.arange(num_labels), prod(shape))).reshape(shape)
    blocks = blocks.astype(np.uint8)
    labels = (
        blocks.repeat(BLOCK, 0).repeat(BLOCK, 1).repeat(BLOCK, 2)[: grid[0], : grid[1], : grid[2]]
    )
    return rng.normal(size=grid).astype(np.float32), np.ascontiguousarray(labels)


def nnunet_default(patch: Grid) -> Callable[[Voxels, Ids], Any]:
    """nnU-Net's training transforms for this patch, mirroring included."""
    from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as trainer

    angle = ROTATION / 180 * np.pi
    transforms = trainer.nnUNetTrainer.get_training_transforms(
        patch, (-angle, angle), None, mirror_axes=(0, 1, 2), do_dummy_2d_data_aug=False,
        use_mask_for_norm=[False],
    )  # fmt: skip

    def apply(x: Voxels, labels: Ids) -> Any:
        image = torch.from_numpy(x.copy())[None]
        return transforms(image=image, segmentation=torch.from_numpy(labels.astype(np.int16))[None])

    return apply


def ours(
    x: Voxels, labels: Ids, place: Slices, config: AugmentConfig, rng: np.random.Generator
) -> tuple[Voxels, Ids]:
    """Turn, scale and vary a patch of a volume as stage 1 does."""
    depth, height, width = x.shape
    warp = draw_warp(config.spatial, place, (depth, height, width), rng)
    if warp is None:
        image = torch.from_numpy(x[place].copy())
        return augment_intensity(image, config, rng).numpy(), labels[place].copy()
    image = torch.from_numpy(warp.image(np.ascontiguousarray(x[warp.box])))
    return augment_intensity(image, config, rng).numpy(), warp.labels(labels[warp.box])


def measure(size: Size) -> list[Ratio]:
    """Measure all rows of this family."""
    x, labels = volume(size.grid, size.num_labels)
    corner = [(whole - edge) // 2 for whole, edge in zip(size.grid, size.patch, strict=True)]
    z, y, x_ = (slice(c, c + edge) for c, edge in zip(corner, size.patch, strict=True))
    place: Slices = (z, y, x_)
    config, theirs = size.params.train_seg.augment, nnunet_default(size.patch)
    patch, patch_labels = x[place].copy(), labels[place].copy()
    theirs(patch, patch_labels)  # their blur tries its kernels at its first call
    times: list[tuple[float, float]] = []
    for number in range(size.draws):
        np.random.seed(number)  # batchgeneratorsv2 draws from the global streams
        torch.manual_seed(number)
        start = process_time()
        theirs(patch, patch_labels)
        middle = process_time()
        ours(x, labels, place, config, generator(number, "augmentation"))
        times.append((middle - start, process_time() - middle))
    means = 1e3 * np.mean(times, axis=0)
    medians = 1e3 * np.median(times, axis=0)
    count = len(np.unique(patch_labels))
    what = f"augmentation of a patch {' x '.join(map(str, size.patch))}, {count} labels"
    return [
        Ratio(what, "nnU-Net's default (batchgeneratorsv2)", float(means[0]), float(means[1]),
              "ms", 10.0,
              f"means of {size.draws} draws in turn (medians {medians[0]:.0f} and "
              f"{medians[1]:.0f} ms); ours with the probabilities and ranges of nnU-Net, labels by "
              "the nearest voxel instead of one interpolated map each, and no mirroring.")
    ]  # fmt: skip
