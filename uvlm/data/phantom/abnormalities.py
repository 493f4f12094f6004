"""The 18 CT-RATE abnormalities as shapes planted in a phantom body, with side, lobe and size.

A planter changes Hounsfield units in place and returns where it did so. Contrast and extent are
matched to a grid of about 7 mm voxels, so that every abnormality can be seen at the resolution
the phantom profile trains on: radii of small findings count voxels, not millimetres.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from uvlm.data.phantom.anatomy import (
    AIR_HU,
    HEART_CENTRE,
    HEART_RADII,
    LEFT_LOWER,
    LEFT_UPPER,
    RIGHT_LOWER,
    RIGHT_MIDDLE,
    RIGHT_UPPER,
    SPINE,
    Anatomy,
    Field,
    Mask,
    Point,
)
from uvlm.data.phantom.reports import Lobe, PlantedFinding, Side, Size

# ReXGroundingCT category of each abnormality; cardiomegaly is anatomy, not a lesion.
CATEGORY_BY_ABNORMALITY: Final = {
    "Medical material": "2h",
    "Arterial wall calcification": "2h",
    "Pericardial effusion": "1f",
    "Coronary artery wall calcification": "2h",
    "Hiatal hernia": "2h",
    "Lymphadenopathy": "2h",
    "Emphysema": "1c",
    "Atelectasis": "2b",
    "Lung nodule": "2d",
    "Lung opacity": "2c",
    "Pulmonary fibrotic sequela": "2a",
    "Pleural effusion": "2e",
    "Mosaic attenuation pattern": "1f",
    "Peribronchial thickening": "1a",
    "Consolidation": "2b",
    "Bronchiectasis": "1b",
    "Interlobular septal thickening": "1d",
}

_LOBE_NAMES: Final[dict[int, tuple[Side, Lobe]]] = {
    RIGHT_UPPER: ("right", "upper"),
    RIGHT_MIDDLE: ("right", "middle"),
    RIGHT_LOWER: ("right", "lower"),
    LEFT_UPPER: ("left", "upper"),
    LEFT_LOWER: ("left", "lower"),
}
_LOBE_CENTRES: Final = {
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
    free_lobes: list[int] = field(default_factory=lambda: list(_LOBE_NAMES))

    def take_lobe(self, candidates: Sequence[int] = tuple(_LOBE_NAMES)) -> int:
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


def plant(abnormality: str, canvas: Canvas) -> Planted:
    """Plant one abnormality; cardiomegaly is drawn by the anatomy and has no mask."""
    return _PLANTERS[abnormality](canvas)


def _in_lobe(abnormality: str, lobe: int, *instances: Mask, size: Size | None = None) -> Planted:
    side, name = _LOBE_NAMES[lobe]
    return Planted(PlantedFinding(abnormality, side, name, size), instances)


def _unlocated(abnormality: str, *instances: Mask, size: Size | None = None) -> Planted:
    return Planted(PlantedFinding(abnormality, None, None, size), instances)


def _cardiomegaly(canvas: Canvas) -> Planted:
    return _unlocated("Cardiomegaly")


def _mosaic(canvas: Canvas) -> Planted:
    """Patches of denser lung beside lucent lung, on both sides."""
    c, lung = canvas.anatomy.coordinates, canvas.anatomy.lung
    phase = canvas.generator.uniform(0.0, 2.0 * np.pi, 3)
    waves = (
        np.sin(9.0 * c.z + phase[0]) + np.sin(11.0 * c.y + phase[1]) + np.sin(11.0 * c.x + phase[2])
    )
    canvas.fill(lung & (waves < 0.0), -950.0)
    dense = lung & (waves > 0.2)
    canvas.fill(dense, -580.0)
    return _unlocated("Mosaic attenuation pattern", dense)


def _emphysema(canvas: Canvas) -> Planted:
    """Black holes without walls."""
    lobe = canvas.take_lobe((RIGHT_UPPER, LEFT_UPPER, RIGHT_LOWER, LEFT_LOWER))
    centre = canvas.near(_LOBE_CENTRES[lobe], 0.06)
    mask = canvas.blob(centre, (0.31, 0.36, 0.27)) & canvas.anatomy.lung
    canvas.fill(mask, AIR_HU)
    return _in_lobe("Emphysema", lobe, mask)


def _opacity(canvas: Canvas) -> Planted:
    """Ground glass."""
    lobe = canvas.take_lobe()
    centre = canvas.near(_LOBE_CENTRES[lobe], 0.05)
    mask = canvas.blob(centre, (0.25, 0.28, 0.22)) & canvas.anatomy.lung
    canvas.fill(mask, -430.0)
    return _in_lobe("Lung opacity", lobe, mask)


def _septal(canvas: Canvas) -> Planted:
    """Paint a net of lines."""
    c = canvas.anatomy.coordinates
    lobe = canvas.take_lobe()
    region = canvas.blob(canvas.near(_LOBE_CENTRES[lobe], 0.05), (0.30, 0.34, 0.26))
    periods = [5.0 * size for size in c.voxel]
    lines = [
        np.abs(p / period % 1.0 - 0.5) < 0.16
        for p, period in zip((c.z, c.y, c.x), periods, strict=True)
    ]
    region &= canvas.anatomy.lung
    canvas.fill(region & np.logical_or.reduce(lines), -250.0)
    return _in_lobe("Interlobular septal thickening", lobe, region)


def _consolidation(canvas: Canvas) -> Planted:
    """Round and water-dense."""
    lobe = canvas.take_lobe()
    centre = canvas.near(_LOBE_CENTRES[lobe], 0.05)
    mask = canvas.blob(centre, (0.22, 0.25, 0.21)) & canvas.anatomy.lung
    canvas.fill(mask, -60.0)
    return _in_lobe("Consolidation", lobe, mask)


def _atelectasis(canvas: Canvas) -> Planted:
    """Paint a flat, enhancing plate."""
    lobe = canvas.take_lobe()
    centre = canvas.near(_LOBE_CENTRES[lobe], 0.05)
    mask = canvas.blob(centre, (0.10, 0.36, 0.26)) & canvas.anatomy.lung
    canvas.fill(mask, 220.0)
    return _in_lobe("Atelectasis", lobe, mask)


def _pleural_effusion(canvas: Canvas) -> Planted:
    """Fluid along the back of one lung."""
    c = canvas.anatomy.coordinates
    side: Side = ("right", "left")[int(canvas.generator.integers(2))]
    size = canvas.size()
    level = 0.36 if size == "small" else 0.18
    half = c.x < 0.0 if side == "right" else c.x > 0.0
    mask = canvas.anatomy.lung & half & (c.y - 0.25 * (c.z + 0.4) > level)
    canvas.fill(mask, -10.0)
    return Planted(PlantedFinding("Pleural effusion", side, None, size), (mask,))


def _bronchiectasis(canvas: Canvas) -> Planted:
    """Paint a cluster of air-filled rings."""
    lobe = canvas.take_lobe()
    rings = np.zeros_like(canvas.anatomy.lung)
    centre = canvas.near(_LOBE_CENTRES[lobe], 0.04)
    for dz, dy, dx in (
        (0.0, -0.13, -0.07),
        (0.0, 0.13, -0.05),
        (0.17, 0.0, 0.06),
        (-0.17, 0.0, 0.05),
    ):
        point = (centre[0] + dz, centre[1] + dy, centre[2] + dx)
        wall = canvas.ball(point, 3.0) & canvas.anatomy.lung
        canvas.fill(wall, 250.0)
        canvas.fill(canvas.ball(point, 1.8) & wall, AIR_HU)
        rings |= wall
    return _in_lobe("Bronchiectasis", lobe, rings)


def _peribronchial(canvas: Canvas) -> Planted:
    """Thick cuffs around two bronchi that run from the hilum into a lobe."""
    c = canvas.anatomy.coordinates
    lobe = canvas.take_lobe()
    z, y, x = canvas.near(_LOBE_CENTRES[lobe], 0.04)
    start = (0.10, 0.16, 0.26 if x > 0 else -0.26)
    voxel = c.voxel[2]
    ends = ((z + 0.16, y - 0.12, x), (z - 0.16, y + 0.12, x))
    cuff = np.logical_or.reduce([c.tube(start, end, 3.0 * voxel) for end in ends])
    cuff &= canvas.anatomy.lung
    canvas.fill(cuff, 780.0)
    for end in ends:
        canvas.fill(cuff & c.tube(start, end, 1.3 * voxel), -600.0)
    return _in_lobe("Peribronchial thickening", lobe, cuff)


def _fibrosis(canvas: Canvas) -> Planted:
    """Thick bands that reach the pleura."""
    c = canvas.anatomy.coordinates
    lobe = canvas.take_lobe()
    z, y, x = canvas.near(_LOBE_CENTRES[lobe], 0.04)
    outward = 0.34 if x > 0 else -0.34
    bands = np.zeros_like(canvas.anatomy.lung)
    for dz in (-0.14, 0.14):
        start, end = (z + dz, y - 0.22, x - 0.4 * outward), (z + dz, y + 0.22, x + outward)
        bands |= c.tube(start, end, 1.6 * c.voxel[2])
    bands &= canvas.anatomy.lung
    canvas.fill(bands, 500.0)
    return _in_lobe("Pulmonary fibrotic sequela", lobe, bands)


def _nodule(canvas: Canvas) -> Planted:
    """One to three dense balls in one lobe."""
    lobe = canvas.take_lobe()
    size = canvas.size()
    radius = 2.0 if size == "small" else 2.8
    centre = canvas.near(_LOBE_CENTRES[lobe], 0.08)
    balls = [canvas.ball(centre, radius) & canvas.anatomy.lung]
    for offset in ((0.24, 0.10), (-0.24, -0.10))[: int(canvas.generator.integers(1, 3))]:
        point = (centre[0] + offset[0], centre[1] + offset[1], centre[2])
        balls.append(canvas.ball(point, radius) & canvas.anatomy.lung)
    for ball in balls:
        canvas.fill(ball, 650.0)
    return _in_lobe("Lung nodule", lobe, *balls, size=size)


def _pericardial_effusion(canvas: Canvas) -> Planted:
    """Paint a watery shell around the heart."""
    anatomy = canvas.anatomy
    size = canvas.size()
    heart = anatomy.organs == 21
    thickness = 2 if size == "small" else 3
    shell = heart
    for _ in range(thickness):
        shell = _dilate(shell)
    shell = shell & ~heart & (anatomy.hu > -1200.0) & _soft_or_lung(anatomy)
    canvas.fill(shell, -10.0)
    return _unlocated("Pericardial effusion", shell, size=size)


def _hernia(canvas: Canvas) -> Planted:
    """Paint a gas-filled pouch with a wall behind the heart."""
    point = canvas.near((-0.34, 0.26, -0.02), 0.03)
    pouch = canvas.blob(point, (0.22, 0.17, 0.20)) & (canvas.anatomy.organs != SPINE)
    canvas.fill(pouch, 60.0)
    canvas.fill(pouch & canvas.blob(point, (0.13, 0.10, 0.12)), -700.0)
    return _unlocated("Hiatal hernia", pouch)


def _nodes(canvas: Canvas) -> Planted:
    """Soft-tissue balls in the mediastinal fat beside the trachea."""
    balls = [
        canvas.ball(canvas.near(centre, 0.02), 2.6)
        for centre in ((0.62, 0.06, -0.15), (0.70, -0.14, 0.04), (0.40, -0.22, 0.16))
    ]
    for ball in balls:
        canvas.fill(ball, 280.0)
    return _unlocated("Lymphadenopathy", *balls)


def _coronary_calcification(canvas: Canvas) -> Planted:
    """Dense specks on the front of the heart."""
    specks = []
    for dz, dx in ((0.14, -0.12), (0.02, 0.10), (-0.12, -0.05)):
        front = HEART_CENTRE[1] - 0.86 * HEART_RADII[1]
        point = canvas.near((HEART_CENTRE[0] + dz, front, HEART_CENTRE[2] + dx), 0.025)
        specks.append(canvas.ball(point, 1.5))
    for speck in specks:
        canvas.fill(speck, 1100.0)
    return _unlocated("Coronary artery wall calcification", *specks)


def _arterial_calcification(canvas: Canvas) -> Planted:
    """Dense specks on the wall of the aorta."""
    places = ((0.50, 0.10, 0.05), (0.30, 0.40, 0.24), (-0.05, 0.42, 0.20), (0.30, -0.16, -0.08))
    specks = [canvas.ball(canvas.near(place, 0.03), 1.5) for place in places]
    for speck in specks:
        canvas.fill(speck, 1100.0)
    return _unlocated("Arterial wall calcification", *specks)


def _medical_material(canvas: Canvas) -> Planted:
    """Paint a catheter down the superior vena cava and the housing it comes from."""
    c = canvas.anatomy.coordinates
    x = -0.20 + float(canvas.generator.uniform(-0.02, 0.02))
    line = c.tube((0.95, -0.12, x), (0.10, -0.12, x), 1.2 * c.voxel[2])
    port = canvas.blob(canvas.near((0.55, -0.62, -0.40), 0.04), (0.12, 0.09, 0.12))
    canvas.fill(line | port, 2600.0)
    return _unlocated("Medical material", line | port)


def _soft_or_lung(anatomy: Anatomy) -> Mask:
    """Voxels that fluid may fill: fat, soft tissue without a name, lung; no vessel, no airway."""
    nameless = (anatomy.organs == 0) & (anatomy.tubes == 0)
    fillable: Mask = nameless | anatomy.lung
    return fillable


def _dilate(mask: Mask) -> Mask:
    """One voxel in each of the six directions."""
    grown: Mask = mask.copy()
    for axis in range(3):
        for step in (1, -1):
            moved = np.roll(mask, step, axis)
            edge: list[slice | int] = [slice(None)] * 3
            edge[axis] = 0 if step == 1 else -1
            moved[tuple(edge)] = False
            grown |= moved
    return grown


# Painting order: diffuse lung disease first, small dense findings last.
_PLANTERS: Final[dict[str, Callable[[Canvas], Planted]]] = {
    "Cardiomegaly": _cardiomegaly,
    "Mosaic attenuation pattern": _mosaic,
    "Emphysema": _emphysema,
    "Lung opacity": _opacity,
    "Interlobular septal thickening": _septal,
    "Consolidation": _consolidation,
    "Atelectasis": _atelectasis,
    "Pleural effusion": _pleural_effusion,
    "Bronchiectasis": _bronchiectasis,
    "Peribronchial thickening": _peribronchial,
    "Pulmonary fibrotic sequela": _fibrosis,
    "Lung nodule": _nodule,
    "Pericardial effusion": _pericardial_effusion,
    "Hiatal hernia": _hernia,
    "Lymphadenopathy": _nodes,
    "Coronary artery wall calcification": _coronary_calcification,
    "Arterial wall calcification": _arterial_calcification,
    "Medical material": _medical_material,
}


def painting_order(abnormalities: Iterator[str] | Sequence[str]) -> list[str]:
    """List the given abnormalities in the order in which they must be planted."""
    wanted = set(abnormalities)
    return [name for name in _PLANTERS if name in wanted]
