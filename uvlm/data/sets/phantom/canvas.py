"""A phantom body being painted on, and what one planted abnormality leaves behind.

Radii of small findings count voxels, not millimetres, so that every abnormality can be seen at the
resolution the phantom profile trains on (voxels of about 7 mm).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from uvlm.data.sets.phantom.anatomy import (
    LEFT_LOWER,
    LEFT_UPPER,
    RIGHT_LOWER,
    RIGHT_MIDDLE,
    RIGHT_UPPER,
    Anatomy,
    Field,
    Mask,
    Point,
)
from uvlm.data.sets.phantom.reports import Lobe, PlantedFinding, Side, Size

LOBE_NAMES: Final[dict[int, tuple[Side, Lobe]]] = {
    RIGHT_UPPER: ("right", "upper"),
    RIGHT_MIDDLE: ("right", "middle"),
    RIGHT_LOWER: ("right", "lower"),
    LEFT_UPPER: ("left", "upper"),
    LEFT_LOWER: ("left", "lower"),
}
LOBE_CENTRES: Final = {
    RIGHT_UPPER: (0.46, -0.05, -0.46),
    RIGHT_MIDDLE: (-0.12, -0.26, -0.52),
    RIGHT_LOWER: (-0.10, 0.34, -0.48),
    LEFT_UPPER: (0.36, -0.08, 0.46),
    LEFT_LOWER: (-0.10, 0.34, 0.48),
}


@dataclass(eq=False)
class Canvas:
    """A body being painted on, and which lobes are still free of focal findings."""

    anatomy: Anatomy
    generator: np.random.Generator
    free_lobes: list[int] = field(default_factory=lambda: list(LOBE_NAMES))

    def take_lobe(self, candidates: Sequence[int] = tuple(LOBE_NAMES)) -> int:
        """Take a random lobe among the candidates, preferably one without a finding yet."""
        free = [lobe for lobe in candidates if lobe in self.free_lobes] or list(candidates)
        lobe = int(free[int(self.generator.integers(len(free)))])
        if lobe in self.free_lobes:
            self.free_lobes.remove(lobe)
        return lobe

    def size(self) -> Size:
        """Small or large."""
        return ("small", "large")[int(self.generator.integers(2))]

    def near(self, centre: Point, spread: float) -> Point:
        """Draw a random point around `centre`."""
        z, y, x = (c + float(self.generator.uniform(-spread, spread)) for c in centre)
        return z, y, x

    def ball(self, centre: Point, voxels: float) -> Mask:
        """Make a ball whose radius is given in voxels."""
        z, y, x = (voxels * size for size in self.anatomy.coordinates.voxel)
        return self.blob(centre, (z, y, x))

    def blob(self, centre: Point, radii: Point) -> Mask:
        """Make an ellipsoid in normalised units."""
        return self.anatomy.coordinates.ellipsoid(centre, radii)

    def fill(self, mask: Mask, hu: float | Field) -> None:
        """Set Hounsfield units where the mask is true."""
        self.anatomy.hu[mask] = hu[mask] if isinstance(hu, np.ndarray) else hu


@dataclass(frozen=True, eq=False)
class Planted:
    """One abnormality of a scan: its words and its voxels (one mask an instance)."""

    finding: PlantedFinding
    instances: tuple[Mask, ...]


def in_lobe(abnormality: str, lobe: int, *instances: Mask, size: Size | None = None) -> Planted:
    """Describe a finding of one lobe."""
    side, name = LOBE_NAMES[lobe]
    return Planted(PlantedFinding(abnormality, side, name, size), instances)


def unlocated(abnormality: str, *instances: Mask, size: Size | None = None) -> Planted:
    """Describe a finding without side or lobe."""
    return Planted(PlantedFinding(abnormality, None, None, size), instances)
