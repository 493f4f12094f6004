"""What a format gives: stored values, how they scale, and where they lie; and rules for all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt

from uvlm.data.ct.volume import Affine, ReadError

AGAIN: Final = "copy or download it again"
CONVERT: Final = "convert it to NIfTI (.nii.gz), for example with dcm2niix or SimpleITK"
MIN_EDGE_VOXELS: Final = 8
_MAX_VOXELS: Final = 2**31


@dataclass(frozen=True, eq=False)
class StoredImage:
    """Stored values (z, y, x) in the file's own axis order; HU = values * slope + inter."""

    values: npt.NDArray[Any]
    affine: Affine
    slope: float = 1.0
    inter: float = 0.0
    series: str = ""  # which part of a folder was read


@dataclass(frozen=True)
class Layout:
    """What a header declares about the bytes of the voxels; `shape` is x first, as in files."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def num_voxels(self) -> int:
        """How many values the file declares."""
        count = 1
        for length in self.shape:
            count *= length
        return count

    @property
    def num_bytes(self) -> int:
        """How many bytes the voxels take."""
        return self.num_voxels * self.dtype.itemsize

    def array(self, payload: bytearray, offset: int = 0) -> npt.NDArray[Any]:
        """Give the voxels of a payload, last axis x, without a copy."""
        flat = np.frombuffer(payload, self.dtype, self.num_voxels, offset)
        return flat.reshape(self.shape[::-1])


def check_layout(layout: Layout, path: Path) -> None:
    """Refuse lengths that no file of voxels has, before anything is allocated."""
    if not layout.shape or min(layout.shape) < 1:
        raise ReadError(path, f"has the dimensions {layout.shape}", AGAIN, reason="dimensions")
    if layout.num_voxels > _MAX_VOXELS:
        raise ReadError(path, f"declares {layout.num_voxels} voxels", AGAIN, reason="dimensions")


def volume_shape(shape: tuple[int, ...], path: Path) -> tuple[int, int, int]:
    """Drop trailing axes of length 1; refuse what is not one volume. Both shapes are x first."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    text = " x ".join(map(str, shape))
    if len(shape) > 3:
        raise ReadError(
            path,
            f"holds {text} voxels, more than one volume",
            "save the one volume that is meant as a file of its own",
            reason="several_volumes",
        )
    if len(shape) < 3 or min(shape) == 1:
        raise ReadError(
            path, f"is a single image of {text}", "give a whole series", reason="single_slice"
        )
    if min(shape) < MIN_EDGE_VOXELS:
        raise ReadError(
            path,
            f"has {text} voxels, fewer than {MIN_EDGE_VOXELS} along one side",
            "give a whole series",
            reason="too_few_slices",
        )
    x, y, z = shape
    return x, y, z


def refuse_size(path: Path, declared: int, real: str) -> NoReturn:
    """Say that a header and its file do not have the same size."""
    fact = f"the header declares {declared} bytes but the file holds {real}"
    raise ReadError(path, fact, AGAIN, reason="size_mismatch")


def refuse_voxel_type(path: Path, fact: str) -> NoReturn:
    """Say that a voxel is not one number."""
    raise ReadError(path, fact, CONVERT, reason="voxel_type")
