"""What every format yields: stored values, how they scale and where they lie; and shared rules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, Self

import numpy as np

from uvlm.arrays import Array
from uvlm.data.ct.volume import Affine, ReadError

AGAIN: Final = "copy or download it again"
CONVERT: Final = "convert it to NIfTI (.nii.gz), for example with dcm2niix or SimpleITK"
FROM_DICOM: Final = "convert it again from the original DICOM, for example with dcm2niix"
MIN_EDGE_VOXELS: Final = 8
_MAX_VOXELS: Final = 2**31


@dataclass(frozen=True, eq=False)
class StoredImage:
    """Stored values (z, y, x) in the file's own axis order; HU = values * slope + inter."""

    values: Array
    affine: Affine
    slope: float = 1.0
    inter: float = 0.0


@dataclass(frozen=True)
class Layout:
    """What a header declares about the bytes of the voxels; `shape` is x first, as in files."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def checked(cls, shape: tuple[int, ...], dtype: np.dtype[Any], path: Path) -> Self:
        """Refuse impossible lengths before anything is allocated."""
        if not shape or min(shape) < 1:
            raise ReadError(path, f"has the dimensions {shape}", AGAIN, reason="dimensions")
        if math.prod(shape) > _MAX_VOXELS:
            fact = f"declares {math.prod(shape)} voxels"
            raise ReadError(path, fact, AGAIN, reason="dimensions")
        return cls(shape, dtype)

    @property
    def num_bytes(self) -> int:
        """How many bytes the voxels take."""
        return math.prod(self.shape) * self.dtype.itemsize

    def array(self, payload: bytearray, offset: int = 0) -> Array:
        """View a payload as voxels, last axis x, without a copy."""
        flat = np.frombuffer(payload, self.dtype, math.prod(self.shape), offset)
        return flat.reshape(self.shape[::-1])


def volume_shape(shape: tuple[int, ...], path: Path) -> tuple[int, int, int]:
    """Drop trailing axes of length 1; refuse anything but one volume. Both shapes are x first."""
    # Many tools write one volume as a series of length 1.
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    text = " x ".join(map(str, shape))
    if len(shape) > 3:
        fact = f"holds {text} voxels, more than one volume"
        remedy = "save the volume you mean as a file of its own"
        raise ReadError(path, fact, remedy, reason="several_volumes")
    remedy = "pass a whole series"
    if len(shape) < 3 or min(shape) == 1:
        raise ReadError(path, f"is a single image of {text}", remedy, reason="single_slice")
    if min(shape) < MIN_EDGE_VOXELS:
        fact = f"has {text} voxels, fewer than {MIN_EDGE_VOXELS} along one side"
        raise ReadError(path, fact, remedy, reason="too_few_slices")
    x, y, z = shape
    return x, y, z


def refuse_size(path: Path, declared: int, real: str) -> NoReturn:
    """Refuse a file whose size is not what its header declares."""
    fact = f"the header declares {declared} bytes but the file holds {real}"
    raise ReadError(path, fact, AGAIN, reason="size_mismatch")


def refuse_voxel_type(path: Path, fact: str) -> NoReturn:
    """Refuse voxels that are not one number each."""
    raise ReadError(path, fact, CONVERT, reason="voxel_type")
