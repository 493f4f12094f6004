"""One phantom scan: a body, its planted abnormalities, and noise as a reconstruction sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from uvlm.data.sets.phantom.abnormalities import CATEGORY_BY_ABNORMALITY, plant
from uvlm.data.sets.phantom.anatomy import Anatomy, Body, Field, body_coordinates, paint_anatomy
from uvlm.data.sets.phantom.canvas import Canvas, Planted
from uvlm.data.sets.phantom.reports import PlantedFinding

_MIN_INSTANCE_VOXELS: Final = 8
_MAX_DRAWS: Final = 40
NORMAL_HEART, _LARGE_HEART = (0.90, 1.0), (1.34, 1.50)


@dataclass(frozen=True, eq=False)
class LesionMask:
    """All voxels of one finding: 0 is background, k the k-th instance."""

    finding: PlantedFinding
    category: str
    instances: npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Scan:
    """A painted chest before noise; every array is (D, H, W) in canonical LPS order."""

    hu: Field
    organs: npt.NDArray[np.uint8]
    tubes: npt.NDArray[np.uint8]
    findings: tuple[PlantedFinding, ...]
    lesions: tuple[LesionMask, ...]

    @classmethod
    def of(cls, anatomy: Anatomy, planted: Sequence[Planted]) -> Self:
        """Take what is left of each finding after all of them were painted."""
        lesions = tuple(_visible_lesions(planted, anatomy.organs.shape))
        findings = tuple(p.finding for p in planted)
        return cls(anatomy.hu, anatomy.organs, anatomy.tubes, findings, lesions)


def draw_scan(
    body: Body,
    abnormalities: Sequence[str],
    shape: tuple[int, int, int],
    generator: np.random.Generator,
) -> Scan:
    """Paint a body and plant the abnormalities; redraw until each of them can be seen."""
    coordinates = body_coordinates(body, shape)
    low, high = _LARGE_HEART if "Cardiomegaly" in abnormalities else NORMAL_HEART

    def once() -> Scan:
        anatomy = paint_anatomy(coordinates, float(generator.uniform(low, high)))
        return Scan.of(anatomy, plant(abnormalities, Canvas(anatomy, generator)))

    return draw_until_visible(once, abnormalities, _MIN_INSTANCE_VOXELS)


def draw_until_visible(
    draw: Callable[[], Scan], abnormalities: Sequence[str], least_voxels: int
) -> Scan:
    """Draw again until so many voxels of each finding are seen."""
    # Later findings can hide earlier ones; the labels would then name what no voxel shows.
    for _ in range(_MAX_DRAWS):
        scan = draw()
        if all(np.count_nonzero(m.instances) >= least_voxels for m in scan.lesions):
            return scan
    raise RuntimeError(f"{sorted(abnormalities)} do not fit into one phantom")


def reconstruct(
    hu: Field, noise_hu: float, generator: np.random.Generator
) -> npt.NDArray[np.int16]:
    """Blur to the scanner's resolution, add noise, round to whole Hounsfield units."""
    # Blur before noise: a scanner blurs the patient, not its own noise.
    for axis in range(3):
        hu = _smooth(hu, axis, 0.12)
    noise = generator.normal(0.0, noise_hu, hu.shape)
    return np.rint(np.clip(hu + noise, -1024.0, 3071.0)).astype(np.int16)


def _visible_lesions(planted: Sequence[Planted], shape: tuple[int, ...]) -> list[LesionMask]:
    """Give the lesion masks without the voxels that later findings painted over."""
    lesions: list[LesionMask] = []
    covered = np.zeros(shape, np.bool_)
    # Backwards: what was painted last hides everything under it.
    for finding, masks in reversed(planted):
        if masks:
            instances = np.zeros(shape, np.uint8)
            for number, mask in enumerate(masks, start=1):
                instances[mask & ~covered] = number
            covered |= np.logical_or.reduce(masks)
            category = CATEGORY_BY_ABNORMALITY[finding.abnormality]
            lesions.append(LesionMask(finding, category, instances))
    return lesions[::-1]


def _smooth(array: Field, axis: int, weight: float) -> Field:
    """Convolve with (weight, 1 - 2 weight, weight), edges repeated."""
    index = np.arange(array.shape[axis])
    # Indices beyond the edge are clipped to it, which repeats the edge.
    below = np.take(array, index - 1, axis, mode="clip")
    above = np.take(array, index + 1, axis, mode="clip")
    smoothed: Field = (1.0 - 2.0 * weight) * array + weight * (below + above)
    return smoothed
