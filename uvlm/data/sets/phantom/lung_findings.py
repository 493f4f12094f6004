"""The abnormalities of the lungs, as shapes and Hounsfield units.

A planter changes Hounsfield units in place and returns where it did so.
"""

from __future__ import annotations

import numpy as np

from uvlm.data.sets.phantom.anatomy import AIR_HU, LEFT_LOWER, LEFT_UPPER, RIGHT_LOWER, RIGHT_UPPER
from uvlm.data.sets.phantom.canvas import LOBE_CENTRES, Canvas, Planted, in_lobe, unlocated


def mosaic(canvas: Canvas) -> Planted:
    """Patches of denser lung beside lucent lung, on both sides."""
    c, lung = canvas.anatomy.coordinates, canvas.anatomy.lung
    phase = canvas.generator.uniform(0.0, 2.0 * np.pi, 3)
    waves = (
        np.sin(9.0 * c.z + phase[0]) + np.sin(11.0 * c.y + phase[1]) + np.sin(11.0 * c.x + phase[2])
    )
    canvas.fill(lung & (waves < 0.0), -950.0)
    dense = lung & (waves > 0.2)
    canvas.fill(dense, -580.0)
    return unlocated("Mosaic attenuation pattern", dense)


def emphysema(canvas: Canvas) -> Planted:
    """Black holes without walls."""
    lobe = canvas.take_lobe((RIGHT_UPPER, LEFT_UPPER, RIGHT_LOWER, LEFT_LOWER))
    centre = canvas.near(LOBE_CENTRES[lobe], 0.06)
    mask = canvas.blob(centre, (0.31, 0.36, 0.27)) & canvas.anatomy.lung
    canvas.fill(mask, AIR_HU)
    return in_lobe("Emphysema", lobe, mask)


def opacity(canvas: Canvas) -> Planted:
    """Ground glass."""
    lobe = canvas.take_lobe()
    centre = canvas.near(LOBE_CENTRES[lobe], 0.05)
    mask = canvas.blob(centre, (0.25, 0.28, 0.22)) & canvas.anatomy.lung
    canvas.fill(mask, -430.0)
    return in_lobe("Lung opacity", lobe, mask)


def septal(canvas: Canvas) -> Planted:
    """Paint a net of lines."""
    c = canvas.anatomy.coordinates
    lobe = canvas.take_lobe()
    region = canvas.blob(canvas.near(LOBE_CENTRES[lobe], 0.05), (0.30, 0.34, 0.26))
    periods = [5.0 * size for size in c.voxel]
    lines = [
        np.abs(p / period % 1.0 - 0.5) < 0.16
        for p, period in zip((c.z, c.y, c.x), periods, strict=True)
    ]
    region &= canvas.anatomy.lung
    canvas.fill(region & np.logical_or.reduce(lines), -250.0)
    return in_lobe("Interlobular septal thickening", lobe, region)


def consolidation(canvas: Canvas) -> Planted:
    """Round and water-dense."""
    lobe = canvas.take_lobe()
    centre = canvas.near(LOBE_CENTRES[lobe], 0.05)
    mask = canvas.blob(centre, (0.22, 0.25, 0.21)) & canvas.anatomy.lung
    canvas.fill(mask, -60.0)
    return in_lobe("Consolidation", lobe, mask)


def atelectasis(canvas: Canvas) -> Planted:
    """Paint a flat, enhancing plate."""
    lobe = canvas.take_lobe()
    centre = canvas.near(LOBE_CENTRES[lobe], 0.05)
    mask = canvas.blob(centre, (0.10, 0.36, 0.26)) & canvas.anatomy.lung
    canvas.fill(mask, 220.0)
    return in_lobe("Atelectasis", lobe, mask)


def bronchiectasis(canvas: Canvas) -> Planted:
    """Paint a cluster of air-filled rings."""
    lobe = canvas.take_lobe()
    rings = np.zeros_like(canvas.anatomy.lung)
    centre = canvas.near(LOBE_CENTRES[lobe], 0.04)
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
    return in_lobe("Bronchiectasis", lobe, rings)


def peribronchial(canvas: Canvas) -> Planted:
    """Thick cuffs around two bronchi that run from the hilum into a lobe."""
    c = canvas.anatomy.coordinates
    lobe = canvas.take_lobe()
    z, y, x = canvas.near(LOBE_CENTRES[lobe], 0.04)
    start = (0.10, 0.16, 0.26 if x > 0 else -0.26)
    voxel = c.voxel[2]
    ends = ((z + 0.16, y - 0.12, x), (z - 0.16, y + 0.12, x))
    cuff = np.logical_or.reduce([c.tube(start, end, 3.0 * voxel) for end in ends])
    cuff &= canvas.anatomy.lung
    canvas.fill(cuff, 780.0)
    for end in ends:
        canvas.fill(cuff & c.tube(start, end, 1.3 * voxel), -600.0)
    return in_lobe("Peribronchial thickening", lobe, cuff)


def fibrosis(canvas: Canvas) -> Planted:
    """Thick bands that reach the pleura."""
    c = canvas.anatomy.coordinates
    lobe = canvas.take_lobe()
    z, y, x = canvas.near(LOBE_CENTRES[lobe], 0.04)
    outward = 0.34 if x > 0 else -0.34
    bands = np.zeros_like(canvas.anatomy.lung)
    for dz in (-0.14, 0.14):
        start, end = (z + dz, y - 0.22, x - 0.4 * outward), (z + dz, y + 0.22, x + outward)
        bands |= c.tube(start, end, 1.6 * c.voxel[2])
    bands &= canvas.anatomy.lung
    canvas.fill(bands, 500.0)
    return in_lobe("Pulmonary fibrotic sequela", lobe, bands)


def nodule(canvas: Canvas) -> Planted:
    """One to three dense balls in one lobe."""
    lobe = canvas.take_lobe()
    size = canvas.size()
    radius = 2.0 if size == "small" else 2.8
    centre = canvas.near(LOBE_CENTRES[lobe], 0.08)
    balls = [canvas.ball(centre, radius) & canvas.anatomy.lung]
    for offset in ((0.24, 0.10), (-0.24, -0.10))[: int(canvas.generator.integers(1, 3))]:
        point = (centre[0] + offset[0], centre[1] + offset[1], centre[2])
        balls.append(canvas.ball(point, radius) & canvas.anatomy.lung)
    for ball in balls:
        canvas.fill(ball, 650.0)
    return in_lobe("Lung nodule", lobe, *balls, size=size)
