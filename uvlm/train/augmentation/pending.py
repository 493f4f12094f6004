"""An item between the disk and the network: read as it is stored, finished where there is time.

On a CPU the loader finishes an item at once. For a GPU it sends Hounsfield units, 2 bytes a voxel
instead of 4, and the device normalises, turns, moves and varies them: there that takes a
millisecond or two, on a core of the CPU it took half a second a volume.

(D, H, W) = (z, y, x).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from uvlm.config import AugmentConfig, Grid, PreprocessConfig
from uvlm.data.contract import scaled
from uvlm.train.augmentation.augment import augment_intensity, roll
from uvlm.train.augmentation.spatial import Sampling


class Pending(NamedTuple):
    """Stored voxels, and where they go; `key` opens the stream of what is still to be drawn."""

    voxels: Tensor  # (D, H, W) Hounsfield units of the box that is sampled
    statistics: tuple[float, float]
    labels: Tensor | None = None  # of the same box
    sampling: Sampling | None = None
    shift: Grid = (0, 0, 0)
    key: int | None = None

    def normalised(self, config: PreprocessConfig) -> Tensor:
        """Return network input, turned and moved."""
        if self.sampling is None:  # the same voxels in either order; this one moves fewer bytes
            return scaled(roll(self.voxels, self.shift).float(), config, self.statistics)
        x = scaled(self.voxels.float(), config, self.statistics)
        return roll(self.sampling.image(x), self.shift)

    def classes(self) -> Tensor:
        """Return the labels of the same places."""
        assert self.labels is not None
        turned = self.labels if self.sampling is None else self.sampling.labels(self.labels)
        return roll(turned, self.shift)

    def varied(
        self,
        config: PreprocessConfig,
        augment: AugmentConfig,
        rng: np.random.Generator | None = None,
    ) -> Tensor:
        """Return network input whose intensities vary, drawn from `rng` or from the item's key."""
        x = self.normalised(config)
        if rng is None and self.key is not None:
            rng = np.random.Generator(np.random.PCG64(self.key))
        return x if rng is None else augment_intensity(x, augment, rng)

    def keyed(self, rng: np.random.Generator) -> Pending:
        """Draw the key of what is drawn later."""
        return self._replace(key=int(rng.integers(2**63 - 1)))
