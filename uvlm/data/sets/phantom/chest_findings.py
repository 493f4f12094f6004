"""The abnormalities of pleura, heart, vessels and mediastinum, and what was put into the body.

A planter changes Hounsfield units in place and returns where it did so.
"""

from __future__ import annotations

import numpy as np

from uvlm.data.sets.phantom.anatomy import HEART_CENTRE, HEART_RADII, SPINE, Anatomy, Mask
from uvlm.data.sets.phantom.canvas import Canvas, Planted, unlocated
from uvlm.data.sets.phantom.reports import PlantedFinding, Side


def cardiomegaly(canvas: Canvas) -> Planted:
    """Add no mask: the anatomy has drawn the heart large."""
    return unlocated("Cardiomegaly")


def pleural_effusion(canvas: Canvas) -> Planted:
    """Fluid along the back of one lung."""
    c = canvas.anatomy.coordinates
    side: Side = ("right", "left")[int(canvas.generator.integers(2))]
    size = canvas.size()
    level = 0.36 if size == "small" else 0.18
    half = c.x < 0.0 if side == "right" else c.x > 0.0
    mask = canvas.anatomy.lung & half & (c.y - 0.25 * (c.z + 0.4) > level)
    canvas.fill(mask, -10.0)
    return Planted(PlantedFinding("Pleural effusion", side, None, size), (mask,))


def pericardial_effusion(canvas: Canvas) -> Planted:
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
    return unlocated("Pericardial effusion", shell, size=size)


def hernia(canvas: Canvas) -> Planted:
    """Paint a gas-filled pouch with a wall behind the heart."""
    point = canvas.near((-0.34, 0.26, -0.02), 0.03)
    pouch = canvas.blob(point, (0.22, 0.17, 0.20)) & (canvas.anatomy.organs != SPINE)
    canvas.fill(pouch, 60.0)
    canvas.fill(pouch & canvas.blob(point, (0.13, 0.10, 0.12)), -700.0)
    return unlocated("Hiatal hernia", pouch)


def nodes(canvas: Canvas) -> Planted:
    """Soft-tissue balls in the mediastinal fat beside the trachea."""
    balls = [
        canvas.ball(canvas.near(centre, 0.02), 2.6)
        for centre in ((0.62, 0.06, -0.15), (0.70, -0.14, 0.04), (0.40, -0.22, 0.16))
    ]
    for ball in balls:
        canvas.fill(ball, 280.0)
    return unlocated("Lymphadenopathy", *balls)


def coronary_calcification(canvas: Canvas) -> Planted:
    """Dense specks on the front of the heart."""
    specks = []
    for dz, dx in ((0.14, -0.12), (0.02, 0.10), (-0.12, -0.05)):
        front = HEART_CENTRE[1] - 0.86 * HEART_RADII[1]
        point = canvas.near((HEART_CENTRE[0] + dz, front, HEART_CENTRE[2] + dx), 0.025)
        specks.append(canvas.ball(point, 1.5))
    for speck in specks:
        canvas.fill(speck, 1100.0)
    return unlocated("Coronary artery wall calcification", *specks)


def arterial_calcification(canvas: Canvas) -> Planted:
    """Dense specks on the wall of the aorta."""
    places = ((0.50, 0.10, 0.05), (0.30, 0.40, 0.24), (-0.05, 0.42, 0.20), (0.30, -0.16, -0.08))
    specks = [canvas.ball(canvas.near(place, 0.03), 1.5) for place in places]
    for speck in specks:
        canvas.fill(speck, 1100.0)
    return unlocated("Arterial wall calcification", *specks)


def medical_material(canvas: Canvas) -> Planted:
    """Paint a catheter down the superior vena cava and the housing it comes from."""
    c = canvas.anatomy.coordinates
    x = -0.20 + float(canvas.generator.uniform(-0.02, 0.02))
    line = c.tube((0.95, -0.12, x), (0.10, -0.12, x), 1.2 * c.voxel[2])
    port = canvas.blob(canvas.near((0.55, -0.62, -0.40), 0.04), (0.12, 0.09, 0.12))
    canvas.fill(line | port, 2600.0)
    return unlocated("Medical material", line | port)


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
