"""Stored values to Hounsfield units, and whether they are any.

A CT shows air, whose peak is near -1000, and soft tissue between fat (-100) and contrast (+200).
MR, 0 to 255, values rescaled never or twice, and clipped windows lack one of the two. Padding
around the field of view may have any values below air, also those that resampling made of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Array
from uvlm.data.ct.formats.stored import StoredImage
from uvlm.data.ct.volume import ReadError

_INT16: Final = np.iinfo(np.int16)
_FLOAT32_MAX: Final = float(np.finfo(np.float32).max)
_SAMPLE_VOXELS: Final = 2_000_000
_BIN_HU: Final = 10
_BELOW_AIR_HU: Final = -1250
_AIR_HU: Final = (-1100, -700)
_DENSE_HU: Final = 500
_SOFT_HU: Final = (-200, 300)
_SOFT_PEAK_HU: Final = (-150, 150)
_PEAK_WIDTH_HU: Final = 50
# Shares of the sampled voxels.
_MIN_AIR, _MIN_SETTLED_AIR, _MIN_SOFT, _MAX_DENSE = 0.002, 0.0001, 0.02, 0.30
# Where much lies below air, more must speak for tissue: a CT rescaled twice shows bone there,
# which is rare and spreads over hundreds of HU.
_MUCH_BELOW_AIR, _SURE_SOFT, _SURE_PEAK = 0.05, 0.05, 0.28
_TWICE_HU: Final = 1024
# Neighbours within air or tissue seldom differ by more; at the edge of padding, even smeared over
# two voxels, they do.
_SLOPE_HU: Final = 300
_SETTLED_VOXELS: Final = 8_000_000
_NEAR_ONE, _ROUNDING, _ROUNDING_HU = 0.1, 1e-6, 1e-3


def scaled(image: StoredImage, path: Path) -> npt.NDArray[np.int16] | npt.NDArray[np.float32]:
    """Turn stored values into int16 where that loses nothing, otherwise into float32."""
    slope, inter = _scale(image, path)
    stored = image.values
    whole = float(slope).is_integer() and float(inter).is_integer()
    if whole and stored.dtype.kind in "iu":
        # In Python's integers, which cannot overflow as those of the file could.
        low, high = (int(v) * int(slope) + int(inter) for v in (stored.min(), stored.max()))
        if _INT16.min <= min(low, high) and max(low, high) <= _INT16.max:
            if (slope, inter) == (1.0, 0.0):
                return stored.astype(np.int16, copy=False)
            out = np.empty(stored.shape, np.int16)
            for plane, values in zip(out, stored, strict=True):  # a whole int64 copy is large
                plane[...] = values.astype(np.int64) * int(slope) + int(inter)
            return out
    return _finite_float32(stored, slope, inter, path)


def check_hounsfield(array: Array, path: Path) -> None:
    """Refuse values that cannot be Hounsfield units."""
    if missing := _implausible(array):
        fact = f"not a CT in Hounsfield units: {missing}"
        raise ReadError(path, fact, "pass a CT in HU, rescaled once", reason="not_hounsfield")


def sample(array: Array) -> Array:
    """Every n-th voxel, at most two million; n is odd, so that it meets every column."""
    flat = array.reshape(-1)
    return flat[:: max(1, flat.size // _SAMPLE_VOXELS) | 1]


def _implausible(array: Array) -> str:
    """Say what these values lack; empty for a CT."""
    values = sample(array)
    below = float(np.mean(values < _BELOW_AIR_HU))
    if below == 1:
        low, high = values.min(), values.max()
        return f"every voxel is {low:g}" if low == high else f"no voxel is above {high:g} HU"
    values, min_air = (_settled(array), _MIN_SETTLED_AIR) if below else (values, _MIN_AIR)
    inside = values[values >= _BELOW_AIR_HU]
    if inside.size == 0:
        return f"{below:.0%} of its voxels are below {_BELOW_AIR_HU} HU, the others lie scattered"
    lacking = _lacking(inside, min_air)
    if below <= _MUCH_BELOW_AIR:
        return lacking
    if lacking := lacking or _rescaled_twice(values, inside):
        many = f"{below:.0%} of its voxels are below {_BELOW_AIR_HU} HU"
        return f"{many}, and {lacking} (rescaled twice?)"
    return ""


def _settled(array: Array) -> Array:
    """Take the voxels of evenly spaced slices that differ little from all six neighbours.

    Resampling smears the edge of padding over every value between it and what it surrounds, air
    among them. Such values lie on a slope, those of air and of tissue in regions.
    """
    planes = max(1, _SETTLED_VOXELS // array[0].size)
    found = []
    for z in range(0, len(array), -(-len(array) // planes)):
        near = array[max(0, z - 1) : z + 2].astype(np.float32)
        plane = near[min(1, z)]
        settled = (np.abs(near - plane) <= _SLOPE_HU).all(axis=0)
        for values, keep in ((plane, settled), (plane.T, settled.T)):
            flat = np.abs(np.diff(values, axis=0)) <= _SLOPE_HU
            keep[1:] &= flat
            keep[:-1] &= flat
        found.append(plane[settled])
    return np.concatenate(found)


def _lacking(values: Array, min_air: float = _MIN_AIR) -> str:
    """Say which of air and soft tissue is not where a CT has it; `values` are without padding."""
    soft, dense = _share(values, _SOFT_HU), float(np.mean(values > _DENSE_HU))
    if _share(values, _AIR_HU) < min_air:
        return f"it shows no air near -1000 HU (values {values.min():g} to {values.max():g})"
    if soft < _MIN_SOFT:
        return f"only {soft:.1%} of its voxels lie in {_SOFT_HU[0]} to {_SOFT_HU[1]} HU"
    if dense > _MAX_DENSE:
        return f"{dense:.0%} of its voxels are above {_DENSE_HU} HU"
    peak = _soft_peak(values)
    if not _SOFT_PEAK_HU[0] <= peak <= _SOFT_PEAK_HU[1]:
        return f"its soft tissue peaks at {peak} HU"
    return ""


def _rescaled_twice(values: Array, inside: Array) -> str:
    """Whether bone that lies where tissue should is all that speaks for the values as they are."""
    inside = inside[inside != 0]  # zeros fill what lay outside a resampled volume
    soft, peak = _share(inside, _SOFT_HU), _soft_peak(inside)
    sharp = _share(inside, (peak - _PEAK_WIDTH_HU, peak + _PEAK_WIDTH_HU))
    if soft >= _SURE_SOFT and sharp >= _SURE_PEAK * soft:
        return ""
    # In float32, as int16 could overflow.
    once = values[values >= _BELOW_AIR_HU - _TWICE_HU].astype(np.float32) + _TWICE_HU
    return "" if _lacking(once) else f"{_TWICE_HU} HU more make a CT of them"


def _soft_peak(values: Array) -> int:
    """Find the commonest value of tissue, smoothed over three bins."""
    low, high = _SOFT_HU
    counts, _ = np.histogram(values, bins=(high - low) // _BIN_HU, range=(low, high))
    smooth = np.convolve(counts, np.ones(3, int), mode="same")
    return low + int(smooth.argmax()) * _BIN_HU + _BIN_HU // 2  # the middle of the bin


def _count(values: Array, limits: tuple[int, int]) -> int:
    low, high = limits
    return int(np.count_nonzero((values >= low) & (values <= high)))


def _share(values: Array, limits: tuple[int, int]) -> float:
    return _count(values, limits) / values.size


def _scale(image: StoredImage, path: Path) -> tuple[float, float]:
    """Check slope and intercept, and round them if they are whole but for rounding."""
    # NIfTI writes a slope of 0 for "not scaled".
    slope, inter = (image.slope, image.inter) if image.slope else (1.0, 0.0)
    if not np.isfinite([slope, inter]).all():
        fact = f"scales its values by {slope:g} and {inter:g}"
        raise ReadError(path, fact, "convert it again", reason="scaling")
    if abs(slope - 1.0) <= _ROUNDING:
        slope = 1.0
        inter = float(round(inter)) if abs(inter - round(inter)) < _ROUNDING_HU else inter
    elif abs(slope - 1.0) < _NEAR_ONE:  # a damaged 1: no scanner and no tool writes such a slope
        fact = f"scales its values by {slope:.9g}, near 1 but not 1"
        raise ReadError(path, fact, "write HU with a slope of 1", reason="scaling")
    return slope, inter


def _finite_float32(
    stored: Array, slope: float, inter: float, path: Path
) -> npt.NDArray[np.float32]:
    out = np.empty(stored.shape, np.float32)
    damaged, lowest, highest = 0, 0.0, 0.0
    for plane, values in zip(out, stored, strict=True):  # a whole float64 copy is large
        exact = values.astype(np.float64) * slope + inter
        finite = np.isfinite(exact)
        damaged += exact.size - int(np.count_nonzero(finite))
        lowest = min(lowest, float(exact.min(where=finite, initial=0.0)))
        highest = max(highest, float(exact.max(where=finite, initial=0.0)))
        plane[...] = np.clip(exact, -_FLOAT32_MAX, _FLOAT32_MAX)  # what it changes is refused below
    if damaged:
        fact = f"{damaged} of {stored.size} voxels are not finite"
        raise ReadError(path, fact, "reconstruct or convert it again", reason="non_finite")
    if highest > _INT16.max or lowest < -_FLOAT32_MAX:  # padding may lie anywhere between
        furthest = max(lowest, highest, key=abs)
        fact = f"not a CT in Hounsfield units: values reach {furthest:g}"
        raise ReadError(path, fact, "pass a CT in HU", reason="not_hounsfield")
    return out
