"""Volumes that travel inside a page: down-sampled, as NIfTI in gzip in base64.

A volume is shrunk until it and all that goes with it fit the page. Hounsfield units are rounded to
steps that no display window can show, as that halves their size; every lesion keeps at least one
voxel. Arrays are (z, y, x) in the CT's canonical order (LPS), whatever the order of its file.
"""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Array, Ids, Voxels
from uvlm.data.ct.formats.nifti import write_nifti
from uvlm.data.ct.grid import Geometry
from uvlm.data.ct.resample import resample_image
from uvlm.data.ct.volume import Affine, Volume, axis_order, spacing_of

SHOWN_HU: Final = (-1024, 2000)
STEP_HU: Final = 4  # the narrowest window has 400 units on 256 grey values
LARGEST_AXIS: Final = 256
BUDGET_BYTES: Final = 6_500_000  # of the CT in base64; with viewer and masks below 12 MB
_MARGIN: Final = 0.98  # smaller voxels compress a little worse
_SMALLEST_AXIS: Final = 8


@dataclass(frozen=True, eq=False)
class Shown:
    """A CT as a page shows it: (z, y, x) in LPS, and where this grid lies in the CT's own."""

    hu: npt.NDArray[np.int16]
    geometry: Geometry

    @classmethod
    def of(cls, volume: Volume, largest: float = LARGEST_AXIS) -> Shown:
        """Shrink a CT so that no axis is longer than `largest`; never enlarge it."""
        order = axis_order(volume.affine)
        shape = order.canonical_shape(volume.array.shape)
        spacing = spacing_of(order.canonical_affine(volume.affine, volume.array.shape))
        # Voxels become as equal as they can: the coarsest axis of a CT is not made coarser.
        wanted = max(n * mm for n, mm in zip(shape, spacing, strict=True)) / largest
        sizes = [
            min(n, max(_SMALLEST_AXIS, round(n * mm / max(wanted, mm))))
            for n, mm in zip(shape, spacing, strict=True)
        ]
        ratios = [n / size for n, size in zip(shape, sizes, strict=True)]
        z, y, x = volume.array.shape
        grid, scale = (sizes[0], sizes[1], sizes[2]), (ratios[0], ratios[1], ratios[2])
        geometry = Geometry((z, y, x), volume.affine, grid, scale)
        hu = resample_image(order.view(volume.array), geometry.axes, SHOWN_HU)
        return cls(hu, geometry)

    @property
    def affine(self) -> Affine:
        """Index (z, y, x, 1) to LPS millimetres."""
        return self.geometry.grid_affine

    @cached_property
    def payload(self) -> str:
        """The CT for the page."""
        steps = np.rint(self.hu / STEP_HU).astype(np.int16)
        return packed(steps * np.int16(STEP_HU), self.affine)

    def labels(self, native: Ids, kept: frozenset[int]) -> Ids:
        """Bring class ids of the CT's own voxels here; no voxel of the classes `kept` is lost."""
        canonical = self.geometry.order.view(native)
        shown = self.geometry.labels_to_grid(np.ascontiguousarray(canonical))
        at = np.nonzero(np.isin(canonical, sorted(kept)))
        placed = zip(at, self.geometry.axes, strict=True)
        here = [np.minimum((i / a.scale).astype(np.intp), a.size - 1) for i, a in placed]
        shown[tuple(here)] = canonical[at]
        return shown


def fitting(volume: Volume, budget: int = BUDGET_BYTES) -> Shown:
    """Shrink a CT until its payload has at most `budget` bytes."""
    largest = float(LARGEST_AXIS)
    shown = Shown.of(volume, largest)
    while len(shown.payload) > budget and largest > _SMALLEST_AXIS:
        largest *= min(0.95, _MARGIN * (budget / len(shown.payload)) ** (1 / 3))
        shown = Shown.of(volume, largest)
    return shown


def packed(array: Array, affine: Affine) -> str:
    """Write (z, y, x) as NIfTI, gzip and base64."""
    plain = gzip.decompress(write_nifti(array, affine))
    return base64.b64encode(gzip.compress(plain, 6, mtime=0)).decode("ascii")


def as_bytes(strength: Voxels) -> tuple[npt.NDArray[np.uint8], float]:
    """Scale a map from its largest value to 255, negative values to 0; returns both."""
    top = float(strength.max(initial=0.0))
    if top <= 0:
        return np.zeros(strength.shape, np.uint8), 0.0
    scaled: npt.NDArray[Any] = np.rint(np.clip(strength, 0, None) * (255.0 / top))
    return scaled.astype(np.uint8), top
