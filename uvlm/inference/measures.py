"""Numbers of one CT by which it can be told whether it is like those of a training.

(D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Ids
from uvlm.data.ct.grid import Geometry
from uvlm.data.ct.volume import spacing_of
from uvlm.data.label_scheme import Dataset, fine_classes

_HU_RANGES: Final = {  # in the words of a reader, not of a histogram
    "air": (-1100, -900),
    "lung": (-900, -500),
    "fat": (-150, -30),
    "soft tissue": (0, 100),
    "contrast or bone": (150, 500),
    "dense bone or metal": (500, 4000),
}
# Organs whose contrast or place tells something, of either scheme.
_ENHANCED: Final = (
    "aorta",
    "heart",
    "liver",
    "spleen",
    "kidney",
    "kidney_left",
    "pulmonary_artery",
)
_PLACED: Final = ("heart", "liver")
_LEAST_VOXELS: Final = 20  # of an organ, for its Hounsfield units to mean something


class Measure(NamedTuple):
    """A number of one CT, its unit, and what it says when it is unusual."""

    value: float
    unit: str
    kind: str


Measures = Mapping[str, Measure]


def measure(
    array: npt.NDArray[np.int16], geometry: Geometry, ids: Ids | None, class_names: Sequence[str]
) -> dict[str, Measure]:
    """Measure one CT.

    Args:
        array: Hounsfield units on the network's grid, (D, H, W).
        geometry: where that grid lies in the CT.
        ids: class ids on the grid; None without a trained U-Net.
        class_names: of the ids.
    """
    found = dict(_sizes(geometry))
    found |= _hounsfield(array)
    if ids is not None:
        found |= _organs(array, ids, class_names, spacing_of(geometry.grid_affine))
    return found


def _sizes(geometry: Geometry) -> Iterator[tuple[str, Measure]]:
    canonical = geometry.order.canonical_affine(geometry.affine, geometry.shape)
    shape = geometry.order.canonical_shape(geometry.shape)
    for axis, count, spacing in zip("zyx", shape, spacing_of(canonical), strict=True):
        yield f"extent along {axis}", Measure(count * spacing, "mm", "field of view")
        yield f"voxel size along {axis}", Measure(spacing, "mm", "voxel size")


def _hounsfield(array: npt.NDArray[np.int16]) -> Iterator[tuple[str, Measure]]:
    kind = "Hounsfield units"
    yield "mean of all voxels", Measure(float(array.mean()), "HU", kind)
    for name, (low, high) in _HU_RANGES.items():
        share = float(np.mean((array >= low) & (array < high)))
        yield f"share of {name} ({low} to {high} HU)", Measure(share, "share", kind)


def _organs(
    array: npt.NDArray[np.int16], ids: Ids, class_names: Sequence[str], spacing: Sequence[float]
) -> Iterator[tuple[str, Measure]]:
    counts = np.bincount(ids.reshape(-1), minlength=len(class_names))
    sums = np.bincount(ids.reshape(-1), array.reshape(-1), minlength=len(class_names))
    voxel_ml = float(np.prod(spacing)) / 1000
    organs = _organ_names()
    for number, name in enumerate(class_names):
        if name not in organs or number == 0:
            continue
        words, count = name.replace("_", " "), int(counts[number])
        yield f"volume of {words}", Measure(count * voxel_ml, "ml", "anatomy")
        if count < _LEAST_VOXELS:
            continue
        if name in _ENHANCED:
            mean = float(sums[number] / count)
            yield f"mean of {words}", Measure(mean, "HU", "contrast phase")
        if name in _PLACED:
            yield from _places(ids == number, words)


def _places(mask: npt.NDArray[np.bool_], words: str) -> Iterator[tuple[str, Measure]]:
    """Say where a structure lies, as shares of the grid; a mirrored or turned CT shows in it."""
    for number, axis in enumerate("zyx"):
        profile = mask.sum(axis=tuple(other for other in range(3) if other != number))
        centre = float(profile @ (np.arange(len(profile)) + 0.5) / profile.sum() / len(profile))
        yield f"place of {words} along {axis}", Measure(centre, "share", "anatomy")


@cache
def _organ_names() -> frozenset[str]:
    """Names of anatomy in every scheme: lesions are rare in each case and tell nothing here."""
    found: set[str] = set()
    for dataset in get_args(Dataset):
        classes = fine_classes(dataset)
        found |= {classes.names[number] for number in classes.anatomy_ids} | {*classes.coarse}
    return frozenset(found)
