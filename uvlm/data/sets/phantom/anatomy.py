"""Synthetic chest anatomy: deformed analytic shapes painted in Hounsfield units.

All shapes live in normalised body coordinates (z, y, x) in [-1, 1], LPS: z grows to Superior, y to
Posterior, x to Left. A patient is a smooth deformation of these coordinates, so labels stay exact.
Everything is float64 without BLAS, so a seed gives the same voxels on any machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]
Point = tuple[float, float, float]
Segment = tuple[Point, Point]

# Ids of the chest scheme that the phantom body contains.
SPLEEN, LIVER, STOMACH = 1, 5, 6
LEFT_UPPER, LEFT_LOWER, RIGHT_UPPER, RIGHT_MIDDLE, RIGHT_LOWER = 10, 11, 12, 13, 14
TRACHEA, SPINE, HEART, AORTA = 16, 20, 21, 22

# TotalSegmentator's `lung_vessels` ids.
AIRWAY, ARTERY, VEIN = 1, 3, 4

AIR_HU, FAT_HU, SOFT_HU = -1000.0, -90.0, 70.0
# Dependent lung is denser, as in a patient lying on the back.
_LUNG_HU: Final = {
    LEFT_UPPER: -880.0,
    LEFT_LOWER: -730.0,
    RIGHT_UPPER: -880.0,
    RIGHT_MIDDLE: -805.0,
    RIGHT_LOWER: -730.0,
}
_ORGAN_HU: Final = {
    SPLEEN: 150.0, LIVER: 100.0, STOMACH: 5.0, SPINE: 480.0, HEART: 130.0, AORTA: 250.0,
}  # fmt: skip
_ARTERY_HU, _VEIN_HU, _AIRWAY_HU = 350.0, 190.0, -990.0

_CONTROL_POINTS: Final = 4
_MAX_DEFORMATION: Final = 0.35  # farther than any body moves a shape
HEART_CENTRE: Final = (-0.14, -0.14, 0.12)
HEART_RADII: Final = (0.29, 0.31, 0.33)
# Ascending part, arch and descending part.
_AORTA: Final = (
    ((0.12, -0.10, -0.06), (0.50, -0.06, -0.06)),
    ((0.50, -0.06, -0.06), (0.50, 0.36, 0.16)),
    ((0.50, 0.36, 0.16), (-1.10, 0.36, 0.16)),
)


@dataclass(frozen=True)
class Body:
    """What makes a patient: rotation, scale, shift and smooth bend of the coordinates."""

    rotation: Point
    scale: Point
    shift: Point
    bend: Field  # (3, 4, 4, 4) displacements at control points

    @classmethod
    def draw(cls, generator: np.random.Generator) -> Body:
        """Draw a random plausible patient."""
        return cls(
            rotation=_triple(generator.normal(0.0, 0.05, 3)),
            scale=_triple(generator.uniform(0.94, 1.07, 3)),
            shift=_triple(generator.normal(0.0, 0.025, 3)),
            bend=generator.normal(0.0, 0.03, (3, *(_CONTROL_POINTS,) * 3)),
        )


class Coordinates(NamedTuple):
    """Normalised body coordinates of every voxel, each (D, H, W)."""

    z: Field
    y: Field
    x: Field

    @property
    def voxel(self) -> Point:
        """The size of one voxel in normalised units along (z, y, x)."""
        depth, height, width = self.z.shape
        return 2.0 / depth, 2.0 / height, 2.0 / width

    def ellipsoid(self, centre: Point, radii: Point) -> Mask:
        """Find the voxels whose centre lies inside an axis-aligned ellipsoid."""
        window = self._window(np.subtract(centre, radii), np.add(centre, radii))
        # Summed one axis after the other, never as a dot product, whose order BLAS may choose.
        terms = (((p[window] - c) / r) ** 2 for p, c, r in zip(self, centre, radii, strict=True))
        mask = np.zeros(self.z.shape, np.bool_)
        mask[window] = sum(terms) < 1.0
        return mask

    def tubes(self, segments: Sequence[Segment], radius: float) -> Mask:
        """Find the voxels nearer than `radius` to any of the segments, given by start and end."""
        mask = np.zeros(self.z.shape, np.bool_)
        for start, end in segments:
            window = self._window(np.minimum(start, end) - radius, np.maximum(start, end) + radius)
            axis = np.subtract(end, start)
            length2 = sum(a * a for a in axis)
            offset = [p[window] - s for p, s in zip(self, start, strict=True)]
            along = sum(o * a for o, a in zip(offset, axis, strict=True))
            # Where along the segment the nearest point lies; clipped, so that ends are round.
            fraction = np.clip(along / length2, 0.0, 1.0)
            # |offset - fraction * axis|^2, expanded so that no vector per voxel is needed.
            distance2 = sum(o**2 for o in offset) - fraction * (2.0 * along - fraction * length2)
            mask[window] |= distance2 < radius * radius
        return mask

    def _window(self, low: Field, high: Field) -> tuple[slice, ...]:
        """Find the block of voxels that can hold a shape between two corners, however deformed."""
        # Shapes are small: testing only this block makes painting several times faster.
        return tuple(
            slice(
                max(0, int((a - _MAX_DEFORMATION + 1.0) / 2.0 * size)),
                max(0, int((b + _MAX_DEFORMATION + 1.0) / 2.0 * size) + 1),
            )
            for a, b, size in zip(low, high, self.z.shape, strict=True)
        )


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A painted body: Hounsfield units and the true label maps, each (D, H, W)."""

    coordinates: Coordinates
    hu: Field
    organs: Labels  # chest-scheme ids
    tubes: Labels  # TotalSegmentator `lung_vessels` ids

    @property
    def lung(self) -> Mask:
        """All five lobes, without the airways and vessels that run through them."""
        # The ids of the five lobes follow each other.
        in_lobe = (self.organs >= LEFT_UPPER) & (self.organs <= RIGHT_LOWER)
        lung: Mask = in_lobe & (self.tubes == 0)
        return lung


def body_coordinates(body: Body, shape: tuple[int, int, int]) -> Coordinates:
    """Compute the deformed, normalised coordinates of each voxel centre of a (D, H, W) grid."""
    z, y, x = np.ix_(*((np.arange(n, dtype=np.float64) + 0.5) / n * 2.0 - 1.0 for n in shape))
    # z is (D, 1, 1), y (1, H, 1), x (1, 1, W): sums of them broadcast to (D, H, W).
    a, b, c = body.rotation  # about x, y, z; so small that sin(a) is a and cos(a) is 1
    rotated = (z + a * y - b * x, y - a * z + c * x, x + b * z - c * y)
    parts = zip(body.scale, rotated, body.shift, body.bend, strict=True)
    return Coordinates(*(s * part + shift + _upsample(d, shape) for s, part, shift, d in parts))


def paint_anatomy(coordinates: Coordinates, heart_scale: float) -> Anatomy:
    """Paint a healthy body; `heart_scale` 1 is normal, above 1.3 is cardiomegaly."""
    c = coordinates
    hu = np.full(c.z.shape, AIR_HU)
    organs, tubes = np.zeros(c.z.shape, np.uint8), np.zeros(c.z.shape, np.uint8)
    inside = (c.y / 0.84) ** 2 + (c.x / 0.96) ** 2 < 1.0
    hu[inside] = SOFT_HU
    cavity = inside & ((c.y / 0.70) ** 2 + (c.x / 0.84) ** 2 < 1.0)
    hu[cavity] = FAT_HU
    # The diaphragm is highest over the middle of each lung; below it, a gap keeps organs apart.
    dome = -0.42 - 0.45 * ((np.abs(c.x) - 0.38) ** 2 + c.y**2)
    # The order decides what lies in front: each shape overwrites the ones before it.
    _paint_abdomen(c, hu, organs, cavity & (c.z < dome - 0.04))
    _paint_lungs(c, organs, cavity & (c.z > dome))
    for lobe, value in _LUNG_HU.items():
        hu[organs == lobe] = value
    z, y, x = (heart_scale * radius for radius in HEART_RADII)
    _paint_organ(hu, organs, c.ellipsoid(HEART_CENTRE, (z, y, x)), HEART)
    _paint_organ(hu, organs, c.tubes(_AORTA, 0.11), AORTA)
    spine = (((c.y - 0.56) / 0.15) ** 2 + (c.x / 0.15) ** 2 < 1.0) & inside
    _paint_organ(hu, organs, spine, SPINE)
    _paint_tubes(c, hu, organs, tubes)
    return Anatomy(c, hu, organs, tubes)


def _paint_organ(hu: Field, organs: Labels, mask: Mask, organ: int) -> None:
    hu[mask] = _ORGAN_HU[organ]
    organs[mask] = organ


def _paint_abdomen(c: Coordinates, hu: Field, organs: Labels, abdomen: Mask) -> None:
    stomach = c.ellipsoid((-0.80, -0.18, 0.40), (0.30, 0.34, 0.28))
    spleen = c.ellipsoid((-0.75, 0.34, 0.50), (0.28, 0.22, 0.22))
    liver = c.x < 0.08 + 0.2 * (c.z + 0.6)
    for mask, organ in ((liver, LIVER), (stomach, STOMACH), (spleen, SPLEEN)):
        _paint_organ(hu, organs, mask & abdomen, organ)


def _paint_lungs(c: Coordinates, organs: Labels, chest: Mask) -> None:
    """Paint two lungs, cut by the oblique fissures and, on the right, the horizontal one."""
    # The oblique fissure rises to the back; only the right lung has a horizontal one.
    lower = c.z < -0.06 + 0.75 * c.y
    middle = c.z < 0.06
    right = chest & c.ellipsoid((-0.02, 0.0, -0.45), (0.98, 0.66, 0.36))
    left = chest & c.ellipsoid((-0.02, 0.0, 0.45), (0.98, 0.66, 0.36))
    organs[left] = np.where(lower, LEFT_LOWER, LEFT_UPPER)[left]
    lobes = np.where(lower, RIGHT_LOWER, np.where(middle, RIGHT_MIDDLE, RIGHT_UPPER))
    organs[right] = lobes[right]


def _paint_tubes(c: Coordinates, hu: Field, organs: Labels, tubes: Labels) -> None:
    """Paint central pulmonary artery and veins, trachea and main bronchi."""
    artery = [((0.24, -0.02, 0.02), (0.16, 0.06, -0.34)), ((0.24, -0.02, 0.02), (0.20, 0.08, 0.38))]
    veins = [((-0.04, 0.16, 0.0), (-0.06, 0.20, -0.36)), ((-0.04, 0.16, 0.1), (-0.06, 0.20, 0.40))]
    bronchi = [((0.34, 0.18, 0.0), (0.06, 0.24, -0.30)), ((0.34, 0.18, 0.0), (0.06, 0.24, 0.32))]
    # Airways last: a bronchus that crosses a vessel stays open.
    for segments, radius, label, value in (
        (veins, 0.095, VEIN, _VEIN_HU),
        (artery, 0.11, ARTERY, _ARTERY_HU),
        (bronchi, 0.075, AIRWAY, _AIRWAY_HU),
    ):
        mask = c.tubes(segments, radius)
        hu[mask] = value
        tubes[mask] = label
    # The trachea is an organ of the chest scheme and an airway; bronchi are airways only.
    trachea = c.tubes([((0.34, 0.18, 0.0), (1.2, 0.12, 0.0))], 0.095)
    hu[trachea] = _AIRWAY_HU
    organs[trachea] = TRACHEA
    tubes[trachea] = AIRWAY


def _upsample(control: Field, shape: tuple[int, int, int]) -> Field:
    """Interpolate (4, 4, 4) control values linearly onto a (D, H, W) grid, axis by axis."""
    field = control
    for axis, size in enumerate(shape):
        position = np.linspace(0.0, _CONTROL_POINTS - 1.0, size)
        # The last voxel lies on the last control point and takes the interval before it.
        low = np.minimum(position.astype(np.int64), _CONTROL_POINTS - 2)
        weight = (position - low).reshape([-1 if i == axis else 1 for i in range(3)])
        field = np.take(field, low, axis) * (1.0 - weight) + np.take(field, low + 1, axis) * weight
    return field


def _triple(values: Field) -> Point:
    z, y, x = (float(v) for v in values)
    return z, y, x
