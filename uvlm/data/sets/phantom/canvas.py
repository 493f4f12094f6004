"""A phantom body being painted on, and what one planted abnormality leaves behind.

Radii of small findings count voxels, not millimetres, so that every abnormality can be seen at the
resolution the phantom profile trains on (voxels of about 7 mm).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from uvlm.data.sets.phantom import anatomy as body
from uvlm.data.sets.phantom.anatomy import Anatomy, Mask, Point
from uvlm.data.sets.phantom.reports import Lobe, PlantedFinding, Side, Size

# What a report calls each lobe, and its centre in body coordinates.
LOBES: Final[dict[int, tuple[Side, Lobe, Point]]] = {
    body.RIGHT_UPPER: ("right", "upper", (0.46, -0.05, -0.46)),
    body.RIGHT_MIDDLE: ("right", "middle", (-0.12, -0.26, -0.52)),
    body.RIGHT_LOWER: ("right", "lower", (-0.10, 0.34, -0.48)),
    body.LEFT_UPPER: ("left", "upper", (0.36, -0.08, 0.46)),
    body.LEFT_LOWER: ("left", "lower", (-0.10, 0.34, 0.48)),
}


@dataclass(eq=False)
class Canvas:
    """A body being painted on, and which lobes are still free of focal findings."""

    anatomy: Anatomy
    generator: np.random.Generator
    free_lobes: list[int] = field(default_factory=lambda: list(LOBES))

    def take_lobe(self, candidates: Sequence[int] = tuple(LOBES)) -> int:
        """Take a random lobe among the candidates, preferably one without a finding yet."""
        # Two focal findings in one lobe would paint over each other.
        free = [lobe for lobe in candidates if lobe in self.free_lobes] or list(candidates)
        lobe = int(free[int(self.generator.integers(len(free)))])
        if lobe in self.free_lobes:
            self.free_lobes.remove(lobe)
        return lobe

    def size(self) -> Size:
        """Draw small or large."""
        return ("small", "large")[int(self.generator.integers(2))]

    def near(self, centre: Point, spread: float) -> Point:
        """Draw a random point around `centre`."""
        z, y, x = (c + float(self.generator.uniform(-spread, spread)) for c in centre)
        return z, y, x

    def in_lobe(self, lobe: int, spread: float) -> Point:
        """Draw a random point around the centre of a lobe."""
        return self.near(LOBES[lobe][2], spread)

    def ball(self, centre: Point, voxels: float) -> Mask:
        """Make a ball whose radius is given in voxels."""
        z, y, x = (voxels * size for size in self.anatomy.coordinates.voxel)
        return self.blob(centre, (z, y, x))

    def blob(self, centre: Point, radii: Point) -> Mask:
        """Make an ellipsoid in body coordinates."""
        return self.anatomy.coordinates.ellipsoid(centre, radii)

    def fill(self, mask: Mask, hu: float) -> None:
        """Set the Hounsfield units of the voxels in a mask."""
        self.anatomy.hu[mask] = hu


class Planted(NamedTuple):
    """One abnormality of a scan: its words, and one mask of voxels per instance."""

    finding: PlantedFinding
    instances: tuple[Mask, ...]


def in_lobe(abnormality: str, lobe: int, *instances: Mask, size: Size | None = None) -> Planted:
    """Describe a finding of one lobe."""
    side, name, _ = LOBES[lobe]
    return Planted(PlantedFinding(abnormality, side, name, size), instances)


def unlocated(abnormality: str, *instances: Mask, size: Size | None = None) -> Planted:
    """Describe a finding without side or lobe."""
    return Planted(PlantedFinding(abnormality, None, None, size), instances)
