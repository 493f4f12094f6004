"""The abnormalities of pleura, heart, vessels and mediastinum, and implanted devices.

A painter changes Hounsfield units in place and returns where it did so.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from uvlm.data.sets.phantom.anatomy import HEART, HEART_CENTRE, HEART_RADII, SPINE
from uvlm.data.sets.phantom.canvas import Canvas, Planted, unlocated
from uvlm.data.sets.phantom.reports import PlantedFinding, Side


def cardiomegaly(canvas: Canvas) -> Planted:
    """Add no mask: the anatomy has drawn the heart large."""
    return unlocated("Cardiomegaly")


def pleural_effusion(canvas: Canvas) -> Planted:
    """Paint fluid along the back of one lung."""
    c = canvas.anatomy.coordinates
    side: Side = ("right", "left")[int(canvas.generator.integers(2))]
    size = canvas.size()
    # The patient lies on the back (+y): a lower level is more fluid, and it is deeper at the base.
    level = 0.36 if size == "small" else 0.18
    half = c.x < 0.0 if side == "right" else c.x > 0.0
    mask = canvas.anatomy.lung & half & (c.y - 0.25 * (c.z + 0.4) > level)
    canvas.fill(mask, -10.0)
    return Planted(PlantedFinding("Pleural effusion", side, None, size), (mask,))


def pericardial_effusion(canvas: Canvas) -> Planted:
    """Paint a watery shell around the heart."""
    anatomy = canvas.anatomy
    size = canvas.size()
    heart = anatomy.organs == HEART
    # Fluid may fill fat, nameless soft tissue and lung, but no vessel and no airway.
    fillable = anatomy.lung | ((anatomy.organs == 0) & (anatomy.tubes == 0))
    shell = ndimage.binary_dilation(heart, iterations=2 if size == "small" else 3)
    shell = shell & ~heart & fillable
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
    """Paint soft-tissue balls in the mediastinal fat beside the trachea."""
    centres = ((0.62, 0.06, -0.15), (0.70, -0.14, 0.04), (0.40, -0.22, 0.16))
    balls = [canvas.ball(canvas.near(centre, 0.02), 2.6) for centre in centres]
    canvas.fill(np.logical_or.reduce(balls), 280.0)
    return unlocated("Lymphadenopathy", *balls)


def coronary_calcification(canvas: Canvas) -> Planted:
    """Paint dense specks on the front of the heart."""
    z, y, x = HEART_CENTRE
    # Just inside the front wall: y grows to the back.
    front = y - 0.86 * HEART_RADII[1]
    places = [(z + dz, front, x + dx) for dz, dx in ((0.14, -0.12), (0.02, 0.10), (-0.12, -0.05))]
    specks = [canvas.ball(canvas.near(place, 0.025), 1.5) for place in places]
    canvas.fill(np.logical_or.reduce(specks), 1100.0)
    return unlocated("Coronary artery wall calcification", *specks)


def arterial_calcification(canvas: Canvas) -> Planted:
    """Paint dense specks on the wall of the aorta."""
    places = ((0.50, 0.10, 0.05), (0.30, 0.40, 0.24), (-0.05, 0.42, 0.20), (0.30, -0.16, -0.08))
    specks = [canvas.ball(canvas.near(place, 0.03), 1.5) for place in places]
    canvas.fill(np.logical_or.reduce(specks), 1100.0)
    return unlocated("Arterial wall calcification", *specks)


def medical_material(canvas: Canvas) -> Planted:
    """Paint a catheter down the superior vena cava, and the housing that it comes from."""
    c = canvas.anatomy.coordinates
    x = -0.20 + float(canvas.generator.uniform(-0.02, 0.02))
    line = c.tubes([((0.95, -0.12, x), (0.10, -0.12, x))], 1.2 * c.voxel[2])
    port = canvas.blob(canvas.near((0.55, -0.62, -0.40), 0.04), (0.12, 0.09, 0.12))
    canvas.fill(line | port, 2600.0)
    return unlocated("Medical material", line | port)
