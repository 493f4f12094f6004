"""A synthetic abdomen, from the lung bases to the hips, in the classes of AbdomenAtlas.

Shapes lie in normalised body coordinates (z, y, x) in [-1, 1], LPS, as those of the chest: z grows
to Superior, y to Posterior, x to Left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from uvlm.data.label_scheme import fine_classes
from uvlm.data.sets.phantom.anatomy import (
    AIR_HU,
    FAT_HU,
    SOFT_HU,
    Coordinates,
    Field,
    Labels,
    Mask,
    Point,
    Segment,
)

ID: Final = {name: number for number, name in enumerate(fine_classes("abdomen").names)}
LIVER: Final = tuple(ID[f"liver_segment_{number}"] for number in range(1, 9))
KIDNEYS: Final = (ID["kidney_right"], ID["kidney_left"])
PANCREAS: Final = tuple(ID[f"pancreas_{part}"] for part in ("head", "body", "tail"))
_LUNG_HU, _LIVER_HU, _BONE_HU = -820.0, 100.0, 520.0
# In painting order: what comes later lies in front. Centre, radii and Hounsfield units.
_ELLIPSOIDS: Final[tuple[tuple[str, Point, Point, float], ...]] = (
    ("intestine", (-0.42, -0.12, 0.0), (0.26, 0.34, 0.44), 35.0),
    ("bladder", (-0.86, -0.16, 0.0), (0.18, 0.24, 0.24), 5.0),
    ("prostate", (-1.0, 0.12, 0.0), (0.10, 0.12, 0.14), 60.0),
    ("femur_right", (-0.95, 0.10, -0.62), (0.18, 0.14, 0.13), _BONE_HU),
    ("femur_left", (-0.95, 0.10, 0.62), (0.18, 0.14, 0.13), _BONE_HU),
    ("stomach", (0.38, -0.22, 0.40), (0.26, 0.28, 0.26), 15.0),
    ("spleen", (0.40, 0.34, 0.60), (0.24, 0.22, 0.16), 135.0),
    ("kidney_right", (-0.04, 0.36, -0.42), (0.26, 0.16, 0.15), 170.0),
    ("kidney_left", (0.04, 0.36, 0.42), (0.26, 0.16, 0.15), 170.0),
    ("adrenal_gland_right", (0.30, 0.36, -0.24), (0.09, 0.07, 0.07), 60.0),
    ("adrenal_gland_left", (0.36, 0.34, 0.26), (0.09, 0.07, 0.07), 60.0),
    ("gall_bladder", (0.06, -0.32, -0.42), (0.14, 0.11, 0.10), 10.0),
    ("pancreas_head", (0.02, 0.02, -0.18), (0.13, 0.12, 0.12), 90.0),
)
_TUBES: Final[tuple[tuple[str, tuple[Segment, ...], float, float], ...]] = (
    ("rectum", (((-1.2, 0.40, 0.0), (-0.70, 0.42, 0.0)),), 0.10, 25.0),
    ("duodenum", (((0.14, 0.0, -0.32), (-0.14, 0.04, -0.30)),), 0.07, 40.0),
    ("pancreas_body", (((0.06, -0.02, -0.08), (0.12, -0.02, 0.12)),), 0.09, 90.0),
    ("pancreas_tail", (((0.14, 0.02, 0.16), (0.22, 0.16, 0.34)),), 0.09, 90.0),
    ("esophagus", (((1.2, 0.22, 0.04), (0.56, 0.04, 0.24)),), 0.06, 45.0),
    ("postcava", (((1.2, 0.34, -0.14), (-0.50, 0.34, -0.12)),), 0.08, 165.0),
    ("aorta", (((1.2, 0.40, 0.10), (-0.50, 0.40, 0.06)),), 0.08, 260.0),
    ("superior_mesenteric_artery", (((0.06, 0.30, 0.05), (-0.30, 0.06, 0.03)),), 0.045, 240.0),
    (
        "portal_vein_and_splenic_vein",
        (((0.30, 0.06, -0.26), (0.10, 0.14, -0.04)), ((0.10, 0.14, -0.04), (0.24, 0.28, 0.42))),
        0.055,
        195.0,
    ),
)
# Ascending, transverse and descending part; it lies behind all that is listed above.
_COLON: Final = (
    ((-0.60, -0.05, -0.66), (0.02, -0.20, -0.62)),
    ((0.02, -0.46, -0.50), (0.02, -0.46, 0.50)),
    ((0.02, -0.10, 0.68), (-0.60, 0.05, 0.66)),
)


@dataclass(frozen=True, eq=False)
class Abdomen:
    """A painted body: Hounsfield units and the ids of abdomen.json, each (D, H, W)."""

    hu: Field
    organs: Labels


def paint_abdomen(c: Coordinates) -> Abdomen:
    """Paint a healthy abdomen."""
    hu, organs = np.full(c.z.shape, AIR_HU), np.zeros(c.z.shape, np.uint8)
    inside = (c.y / 0.84) ** 2 + (c.x / 0.96) ** 2 < 1.0
    hu[inside] = SOFT_HU
    cavity = inside & ((c.y / 0.74) ** 2 + (c.x / 0.88) ** 2 < 1.0)
    hu[cavity] = FAT_HU
    hu[inside & c.tubes([((1.3, 0.60, 0.0), (-1.3, 0.60, 0.0))], 0.16)] = _BONE_HU
    _paint(hu, organs, c.tubes(_COLON, 0.10) & cavity, ID["colon"], -220.0)
    for name, centre, radii, value in _ELLIPSOIDS:
        _paint(hu, organs, c.ellipsoid(centre, radii) & inside, ID[name], value)
    _paint_liver(c, hu, organs, cavity)
    for name, segments, radius, value in _TUBES:
        _paint(hu, organs, c.tubes(segments, radius) & inside, ID[name], value)
    _paint_lungs(c, hu, organs, cavity)
    return Abdomen(hu, organs)


def _paint(hu: Field, organs: Labels, mask: Mask, organ: int, value: float) -> None:
    hu[mask] = value
    organs[mask] = organ


def _paint_liver(c: Coordinates, hu: Field, organs: Labels, cavity: Mask) -> None:
    """Paint the liver around what was painted before, in Couinaud's segments."""
    liver = c.ellipsoid((0.36, -0.06, -0.38), (0.44, 0.56, 0.50)) & cavity & (organs == 0)
    upper, front = c.z > 0.36, c.y < -0.04
    right = np.where(front, np.where(upper, 8, 5), np.where(upper, 7, 6))
    left = np.where(upper, 2, 3)
    segment = np.where(c.x < -0.34, right, np.where(c.x < -0.14, 4, left))
    segment[c.ellipsoid((0.36, 0.24, -0.16), (0.14, 0.12, 0.12))] = 1  # the caudate lobe
    hu[liver] = _LIVER_HU
    organs[liver] = LIVER[0] - 1 + segment[liver]
    vessel = c.tubes([((0.62, 0.20, -0.16), (0.48, -0.10, -0.56))], 0.05) & liver
    _paint(hu, organs, vessel, ID["hepatic_vessel"], 180.0)


def _paint_lungs(c: Coordinates, hu: Field, organs: Labels, cavity: Mask) -> None:
    """Paint the bases of both lungs above the domes of the diaphragm."""
    dome = 0.70 - 0.35 * ((np.abs(c.x) - 0.42) ** 2 + c.y**2)
    chest = cavity & (c.z > dome) & (np.abs(c.x) > 0.14)
    for name, half in (("lung_right", c.x < 0.0), ("lung_left", c.x > 0.0)):
        _paint(hu, organs, chest & half, ID[name], _LUNG_HU)
