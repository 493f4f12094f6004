"""Augmented views of volumes, for the encoder in training and for the cache of a frozen one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uvlm.config import AugmentConfig
from uvlm.seeding import generator
from uvlm.train.augment import Voxels, augment_intensity, draw_roll, roll


@dataclass(frozen=True)
class CachedViews:
    """View number n of a case, always the same for one seed."""

    augment: AugmentConfig
    seed: int

    def __call__(self, x: Voxels, case_id: str, number: int) -> Voxels:
        """Augment normalised voxels (D, H, W)."""
        return augmented(x, self.augment, generator(self.seed, "view", case_id, number))


def augmented(x: Voxels, augment: AugmentConfig, rng: np.random.Generator) -> Voxels:
    """Shift a whole volume (D, H, W) and change its intensities."""
    return augment_intensity(roll(x, draw_roll(augment, rng)), augment, rng)
