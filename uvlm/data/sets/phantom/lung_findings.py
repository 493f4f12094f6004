"""The abnormalities of the lungs, as shapes and Hounsfield units.

A painter changes Hounsfield units in place and returns where it did so.
"""

from __future__ import annotations

import numpy as np

from uvlm.data.sets.phantom import anatomy
from uvlm.data.sets.phantom.anatomy import AIR_HU, Point
from uvlm.data.sets.phantom.canvas import Canvas, Planted, in_lobe, unlocated


def mosaic(canvas: Canvas) -> Planted:
    """Paint patches of denser lung beside lucent lung, on both sides."""
    c, lung = canvas.anatomy.coordinates, canvas.anatomy.lung
    a, b, d = canvas.generator.uniform(0.0, 2.0 * np.pi, 3)
    waves = np.sin(9.0 * c.z + a) + np.sin(11.0 * c.y + b) + np.sin(11.0 * c.x + d)
    # Between the two thresholds lung stays as it was, so that patches have soft borders.
    dense = lung & (waves > 0.2)
    canvas.fill(lung & (waves < 0.0), -950.0)
    canvas.fill(dense, -580.0)
    return unlocated("Mosaic attenuation pattern", dense)


def emphysema(canvas: Canvas) -> Planted:
    """Paint black holes without walls."""
    lobes = (anatomy.RIGHT_UPPER, anatomy.LEFT_UPPER, anatomy.RIGHT_LOWER, anatomy.LEFT_LOWER)
    lobe = canvas.take_lobe(lobes)
    return _cloud("Emphysema", canvas, lobe, 0.06, (0.31, 0.36, 0.27), AIR_HU)


def opacity(canvas: Canvas) -> Planted:
    """Paint ground glass."""
    return _cloud("Lung opacity", canvas, canvas.take_lobe(), 0.05, (0.25, 0.28, 0.22), -430.0)


def consolidation(canvas: Canvas) -> Planted:
    """Paint a round, water-dense region."""
    return _cloud("Consolidation", canvas, canvas.take_lobe(), 0.05, (0.22, 0.25, 0.21), -60.0)


def atelectasis(canvas: Canvas) -> Planted:
    """Paint a flat, enhancing plate."""
    return _cloud("Atelectasis", canvas, canvas.take_lobe(), 0.05, (0.10, 0.36, 0.26), 220.0)


def septal(canvas: Canvas) -> Planted:
    """Paint a net of lines."""
    c = canvas.anatomy.coordinates
    lobe = canvas.take_lobe()
    region = canvas.blob(canvas.in_lobe(lobe, 0.05), (0.30, 0.34, 0.26)) & canvas.anatomy.lung
    # A line every five voxels along each axis, about a third of the period thick.
    phases = (p / (5.0 * size) % 1.0 for p, size in zip(c, c.voxel, strict=True))
    lines = [np.abs(phase - 0.5) < 0.16 for phase in phases]
    canvas.fill(region & np.logical_or.reduce(lines), -250.0)
    return in_lobe("Interlobular septal thickening", lobe, region)


def bronchiectasis(canvas: Canvas) -> Planted:
    """Paint a cluster of air-filled rings."""
    lobe = canvas.take_lobe()
    z, y, x = canvas.in_lobe(lobe, 0.04)
    rings = np.zeros_like(canvas.anatomy.lung)
    offsets = ((0.0, -0.13, -0.07), (0.0, 0.13, -0.05), (0.17, 0.0, 0.06), (-0.17, 0.0, 0.05))
    for dz, dy, dx in offsets:
        point = (z + dz, y + dy, x + dx)
        # The lumen is filled after its wall, and only inside it.
        wall = canvas.ball(point, 3.0) & canvas.anatomy.lung
        canvas.fill(wall, 250.0)
        canvas.fill(canvas.ball(point, 1.8) & wall, AIR_HU)
        rings |= wall
    return in_lobe("Bronchiectasis", lobe, rings)


def peribronchial(canvas: Canvas) -> Planted:
    """Paint thick cuffs around two bronchi that run from the hilum into a lobe."""
    c = canvas.anatomy.coordinates
    lobe = canvas.take_lobe()
    z, y, x = canvas.in_lobe(lobe, 0.04)
    # The hilum of the same side.
    start = (0.10, 0.16, 0.26 if x > 0 else -0.26)
    ends = ((z + 0.16, y - 0.12, x), (z - 0.16, y + 0.12, x))
    cuff = c.tubes([(start, end) for end in ends], 3.0 * c.voxel[2]) & canvas.anatomy.lung
    canvas.fill(cuff, 780.0)
    # Both lumens come after both walls, so that one wall cannot close the other's lumen.
    canvas.fill(cuff & c.tubes([(start, end) for end in ends], 1.3 * c.voxel[2]), -600.0)
    return in_lobe("Peribronchial thickening", lobe, cuff)


def fibrosis(canvas: Canvas) -> Planted:
    """Paint thick bands that reach the pleura."""
    c = canvas.anatomy.coordinates
    lobe = canvas.take_lobe()
    z, y, x = canvas.in_lobe(lobe, 0.04)
    # x grows to the left, so the pleura of the right lung lies at negative x.
    outward = 0.34 if x > 0 else -0.34
    lines: list[tuple[Point, Point]] = [
        ((z + dz, y - 0.22, x - 0.4 * outward), (z + dz, y + 0.22, x + outward))
        for dz in (-0.14, 0.14)
    ]
    bands = c.tubes(lines, 1.6 * c.voxel[2]) & canvas.anatomy.lung
    canvas.fill(bands, 500.0)
    return in_lobe("Pulmonary fibrotic sequela", lobe, bands)


def nodule(canvas: Canvas) -> Planted:
    """Paint two or three dense balls in one lobe."""
    lobe = canvas.take_lobe()
    size = canvas.size()
    radius = 2.0 if size == "small" else 2.8
    z, y, x = canvas.in_lobe(lobe, 0.08)
    offsets = ((0.0, 0.0), (0.24, 0.10), (-0.24, -0.10))[: 1 + int(canvas.generator.integers(1, 3))]
    centres = [(z + dz, y + dy, x) for dz, dy in offsets]
    # Apart along z and y, so that each ball stays an instance of its own.
    balls = [canvas.ball(centre, radius) & canvas.anatomy.lung for centre in centres]
    canvas.fill(np.logical_or.reduce(balls), 650.0)
    return in_lobe("Lung nodule", lobe, *balls, size=size)


def _cloud(
    abnormality: str, canvas: Canvas, lobe: int, spread: float, radii: Point, hu: float
) -> Planted:
    """Fill an ellipsoid near the centre of a lobe."""
    mask = canvas.blob(canvas.in_lobe(lobe, spread), radii) & canvas.anatomy.lung
    canvas.fill(mask, hu)
    return in_lobe(abnormality, lobe, mask)
