"""Augmented views of a case, always the same for one seed: the cache of a frozen encoder."""

from __future__ import annotations

from dataclasses import dataclass

from uvlm.arrays import Voxels
from uvlm.config import AugmentConfig
from uvlm.seeding import generator
from uvlm.train.augmentation.augment import augment_volume


@dataclass(frozen=True)
class CachedViews:
    """Makes view number n of a case."""

    augment: AugmentConfig
    seed: int

    def __call__(self, x: Voxels, case_id: str, number: int) -> Voxels:
        """Augment normalised voxels (D, H, W)."""
        return augment_volume(x, self.augment, generator(self.seed, "view", case_id, number))
