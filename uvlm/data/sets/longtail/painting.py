"""The 18 abnormalities in sizes from one voxel to a lobe.

Each has a place, an order in which its voxels fill, and a look:

    place   a lobe, a pleural space, the wall of the aorta ...       Mask
    order   distance from a point, or from the back of the chest     Field over the place
    look    Hounsfield units, or a texture of them
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import ndimage

from uvlm.data.sets.phantom import anatomy as body
from uvlm.data.sets.phantom.anatomy import AIR_HU, Anatomy, Mask, Point
from uvlm.data.sets.phantom.canvas import LOBES, Planted, unlocated
from uvlm.data.sets.phantom.growth import ROUND, Growth, size_of
from uvlm.data.sets.phantom.reports import Lobe, PlantedFinding, Side

_BILATERAL: Final = 0.2
_LARGEST_NODULE, _LARGEST_NODE, _LARGEST_PLAQUE = 160, 120, 40  # voxels of one instance
_WATER_HU: Final = -10.0
_PERIOD: Final = 5  # voxels between two lines of a net or two rings
Fill = Callable[[Anatomy, Mask], None]


@dataclass(frozen=True, eq=False)
class Palette(Growth):
    """A body being painted on, and how large its findings become."""

    anatomy: Anatomy


Painter = Callable[[Palette], Planted]


def heart_scale(extent: float) -> float:
    """How far cardiomegaly enlarges the heart; 1 is the largest normal one."""
    return 1.12 + 0.38 * extent


def _lobar(name: str, radii: Point, look: Fill, limit: int | None = None) -> Painter:
    """Make the painter of a finding of one lobe, or of a lobe on either side."""

    def paint(palette: Palette) -> Planted:
        side, lobe, ids = _draw_lobes(palette.generator)
        extent, masks = palette.extent(), []
        for number in ids:
            place = _lung(palette.anatomy, number)
            order = palette.around(place, palette.a_voxel_of(place), radii)
            masks.append(palette.grow(place, extent, order, limit))
            look(palette.anatomy, masks[-1])
        return Planted(PlantedFinding(name, side, lobe, size_of(extent)), tuple(masks))

    return paint


def _nodules(palette: Palette) -> Planted:
    """Paint one to three balls in each lobe."""
    side, lobe, ids = _draw_lobes(palette.generator)
    extent, masks = palette.extent(), []
    for number in ids:
        masks += palette.balls(_lung(palette.anatomy, number), extent, _LARGEST_NODULE)
    _solid(650.0)(palette.anatomy, np.logical_or.reduce(masks))
    return Planted(PlantedFinding("Lung nodule", side, lobe, size_of(extent)), tuple(masks))


def _scattered(name: str, place_of: Callable[[Anatomy], Mask], limit: int, hu: float) -> Painter:
    """Make the painter of one to three balls somewhere in a place."""

    def paint(palette: Palette) -> Planted:
        masks = palette.balls(place_of(palette.anatomy), palette.extent(), limit)
        _solid(hu)(palette.anatomy, np.logical_or.reduce(masks))
        return unlocated(name, *masks)

    return paint


def _pleural_effusion(palette: Palette) -> Planted:
    """Paint fluid that has settled at the back of one lung or of both."""
    anatomy, extent = palette.anatomy, palette.extent()
    side = _draw_side(palette.generator)
    halves = [half for half in ("right", "left") if side in (half, "bilateral")]
    masks = []
    for half in halves:
        x = anatomy.coordinates.x
        place = anatomy.lung & (x < 0.0 if half == "right" else x > 0.0)
        c = anatomy.coordinates
        # The patient lies on the back (+y), and fluid is deepest at the base (-z).
        order = (0.25 * c.z - c.y)[place]
        masks.append(palette.grow(place, extent, order, limit=len(order) // 2))
        _solid(_WATER_HU)(anatomy, masks[-1])
    finding = PlantedFinding("Pleural effusion", side, None, size_of(extent))
    return Planted(finding, tuple(masks))


def _pericardial_effusion(palette: Palette) -> Planted:
    """Paint fluid that collects behind the heart first and surrounds it in the end."""
    anatomy, extent = palette.anatomy, palette.extent()
    heart = anatomy.organs == body.HEART
    fillable = anatomy.lung | ((anatomy.organs == 0) & (anatomy.tubes == 0))
    place = ndimage.binary_dilation(heart, iterations=3) & ~heart & fillable
    shells = ndimage.distance_transform_cdt(~heart, "taxicab")[place]
    shell = palette.grow(place, extent, shells - 4.0 * anatomy.coordinates.y[place])
    _solid(_WATER_HU)(anatomy, shell)
    return unlocated("Pericardial effusion", shell, size=size_of(extent))


def _hernia(palette: Palette) -> Planted:
    """Paint a pouch behind the heart, with gas in it if it is large enough for a wall."""
    anatomy, extent = palette.anatomy, palette.extent()
    behind = anatomy.coordinates.ellipsoid((-0.34, 0.26, -0.02), (0.26, 0.20, 0.24))
    place = behind & ~np.isin(anatomy.organs, (body.SPINE, body.AORTA))
    pouch = palette.grow(place, extent, palette.around(place, palette.a_voxel_of(place), ROUND))
    _solid(60.0)(anatomy, pouch)
    _solid(-700.0)(anatomy, ndimage.binary_erosion(pouch))
    return unlocated("Hiatal hernia", pouch, size=size_of(extent))


def _medical_material(palette: Palette) -> Planted:
    """Paint a catheter from its port down the superior vena cava, as far as it reaches."""
    c, extent = palette.anatomy.coordinates, palette.extent()
    x = -0.20 + float(palette.generator.uniform(-0.04, 0.04))
    port = c.ellipsoid((0.55, -0.62, -0.40), (0.14, 0.10, 0.14))
    place = port | c.tubes([((0.95, -0.12, x), (0.10, -0.12, x))], 1.2 * c.voxel[2])
    device = palette.grow(place, extent, (-c.z)[place])  # from above
    _solid(2600.0)(palette.anatomy, device)
    return unlocated("Medical material", device)


def _mosaic(palette: Palette) -> Planted:
    """Paint patches of denser lung beside lucent lung, spreading from a point."""
    anatomy, c = palette.anatomy, palette.anatomy.coordinates
    a, b, d = palette.generator.uniform(0.0, 2.0 * np.pi, 3)
    waves = np.sin(9.0 * c.z + a) + np.sin(11.0 * c.y + b) + np.sin(11.0 * c.x + d)
    dense = anatomy.lung & (waves > 0.2)
    order = palette.around(dense, palette.a_voxel_of(dense), ROUND)
    filled = palette.grow(dense, palette.extent(), order)
    beside = ndimage.binary_dilation(filled, iterations=2) & anatomy.lung & (waves < 0.0)
    _solid(-950.0)(anatomy, beside)
    _solid(-580.0)(anatomy, filled)
    return unlocated("Mosaic attenuation pattern", filled)


def _cuffs(palette: Palette) -> Planted:
    """Paint thick walls around a bronchus that runs from the hilum into a lobe."""
    anatomy, c = palette.anatomy, palette.anatomy.coordinates
    side, lobe, ids = _draw_lobes(palette.generator)
    extent, masks = palette.extent(), []
    for number in ids:
        z, y, x = LOBES[number][2]
        start = (0.10, 0.16, 0.26 if x > 0 else -0.26)
        lung = _lung(anatomy, number)
        place = c.tubes([(start, (z, y, x))], 3.0 * c.voxel[2]) & lung
        place = place if place.any() else lung
        masks.append(palette.grow(place, extent, (c.x[place] - start[2]) ** 2))
        _solid(780.0)(anatomy, masks[-1])
        lumen = masks[-1] & c.tubes([(start, (z, y, x))], 1.3 * c.voxel[2])
        # A cuff that is all lumen would be a bronchus without a wall.
        if (masks[-1] & ~lumen).any():
            _solid(-600.0)(anatomy, lumen)
    finding = PlantedFinding("Peribronchial thickening", side, lobe, size_of(extent))
    return Planted(finding, tuple(masks))


def _draw_side(generator: np.random.Generator) -> Side:
    """Draw right and left equally often, so that neither is a good guess."""
    if generator.random() < _BILATERAL:
        return "bilateral"
    return ("right", "left")[int(generator.integers(2))]


def _draw_lobes(generator: np.random.Generator) -> tuple[Side, Lobe | None, list[int]]:
    """Draw a lobe of one side, or one on each; a pair of unlike lobes has no name."""
    side = _draw_side(generator)
    halves = ("right", "left") if side == "bilateral" else (side,)
    choices = [[number for number, (of, *_) in LOBES.items() if of == half] for half in halves]
    ids = [lobes[int(generator.integers(len(lobes)))] for lobes in choices]
    names = {LOBES[number][1] for number in ids}
    return side, names.pop() if len(names) == 1 else None, ids


def _lung(anatomy: Anatomy, lobe: int) -> Mask:
    inside: Mask = (anatomy.organs == lobe) & (anatomy.tubes == 0)
    return inside


def _mediastinal_fat(anatomy: Anatomy) -> Mask:
    c = anatomy.coordinates
    middle = c.ellipsoid((0.55, 0.0, 0.0), (0.30, 0.40, 0.26))
    fat: Mask = middle & (anatomy.organs == 0) & (anatomy.tubes == 0)
    return fat


def _front_of_heart(anatomy: Anatomy) -> Mask:
    heart = anatomy.organs == body.HEART
    wall: Mask = heart & ~ndimage.binary_erosion(heart, iterations=2)
    front: Mask = wall & (anatomy.coordinates.y < body.HEART_CENTRE[1])
    return front


def _wall_of_aorta(anatomy: Anatomy) -> Mask:
    aorta = anatomy.organs == body.AORTA
    wall: Mask = aorta & ~ndimage.binary_erosion(aorta)
    return wall


def _solid(hu: float) -> Fill:
    def fill(anatomy: Anatomy, mask: Mask) -> None:
        anatomy.hu[mask] = hu

    return fill


def _net(anatomy: Anatomy, mask: Mask) -> None:
    """Draw lines; in a region too small for a net, a single stroke."""
    z, y, x = np.ix_(*map(np.arange, mask.shape))
    lines = mask & ((z % _PERIOD == 0) | (y % _PERIOD == 0) | (x % _PERIOD == 0))
    anatomy.hu[lines if lines.any() else mask] = -250.0


def _rings(anatomy: Anatomy, mask: Mask) -> None:
    """Draw walls around lumens; in a region too small for a ring, only the wall."""
    z, y, x = np.ix_(*map(np.arange, mask.shape))
    lumen = (z % _PERIOD > 1) & (y % _PERIOD > 1) & (x % _PERIOD > 1)
    anatomy.hu[mask] = 250.0
    if (mask & ~lumen).any():
        anatomy.hu[mask & lumen] = AIR_HU


# In painting order: diffuse lung disease first, small dense findings last. Cardiomegaly is anatomy.
PAINTERS: Final[dict[str, Painter]] = {
    "Mosaic attenuation pattern": _mosaic,
    "Emphysema": _lobar("Emphysema", ROUND, _solid(AIR_HU)),
    "Lung opacity": _lobar("Lung opacity", ROUND, _solid(-430.0)),
    "Interlobular septal thickening": _lobar("Interlobular septal thickening", ROUND, _net),
    "Consolidation": _lobar("Consolidation", ROUND, _solid(-60.0)),
    # A plate that lies flat, and a band that reaches from front to back.
    "Atelectasis": _lobar("Atelectasis", (0.25, 1.0, 1.0), _solid(220.0), limit=400),
    "Pleural effusion": _pleural_effusion,
    "Bronchiectasis": _lobar("Bronchiectasis", ROUND, _rings),
    "Peribronchial thickening": _cuffs,
    "Pulmonary fibrotic sequela": _lobar(
        "Pulmonary fibrotic sequela", (0.25, 2.0, 0.5), _solid(500.0), limit=300
    ),
    "Lung nodule": _nodules,
    "Pericardial effusion": _pericardial_effusion,
    "Hiatal hernia": _hernia,
    "Lymphadenopathy": _scattered("Lymphadenopathy", _mediastinal_fat, _LARGEST_NODE, 280.0),
    "Coronary artery wall calcification": _scattered(
        "Coronary artery wall calcification", _front_of_heart, _LARGEST_PLAQUE, 1100.0
    ),
    "Arterial wall calcification": _scattered(
        "Arterial wall calcification", _wall_of_aorta, _LARGEST_PLAQUE, 1100.0
    ),
    "Medical material": _medical_material,
}
