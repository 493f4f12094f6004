"""Reading and writing volumes, label maps and findings masks: the one border of the data.

Every file is read strictly (see `nifti` and `geometry`) and whole; what is refused names the file,
the fact and a reason slug. Arrays are (z, y, x) in the file's own axis order; F findings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.data.geometry import affine_of
from uvlm.data.nifti import Header, read_nifti, write_nifti
from uvlm.data.volume import LabelMap, ReadError, Volume
from uvlm.store import array_sha256, write_bytes_atomic

_MIN_EDGE_VOXELS: Final = 4
_INT16: Final = np.iinfo(np.int16)
# Nothing in a body or around it is less dense than air; scanners write lower values as padding.
_BELOW_AIR_HU, _AIR_HU = -1250, -500
_FAT_HU, _SOFT_HU = (-200, -20), (-200, 300)
_MIN_SOFT, _MIN_AIR, _MIN_FAT, _MAX_BELOW_AIR = 0.01, 0.005, 0.02, 0.05


def read_volume(path: Path) -> Volume:
    """Read a CT in Hounsfield units.

    Raises:
        ReadError: the bytes, the geometry or the values are not those of a CT.
    """
    header, stored = read_nifti(path)
    stored = _three_dimensional(header, stored, path)
    affine = affine_of(header, path)
    array = _scaled(header, stored, path)
    check_hounsfield(array, path)
    return Volume(array, affine)


def read_label_map(path: Path) -> LabelMap:
    """Read one class id per voxel, 0 to 255."""
    header, stored = read_nifti(path)
    stored = _three_dimensional(header, stored, path)
    return LabelMap(_class_ids(stored, path), affine_of(header, path))


def read_findings_mask(path: Path) -> npt.NDArray[np.uint8]:
    """Read a ReXGroundingCT mask (F, z, y, x): value k marks the k-th instance of a finding.

    The file's first axis is the finding and its affine is the identity, so the voxels follow the
    index order of the CT it belongs to.
    """
    header, stored = read_nifti(path)
    if len(header.shape) != 4:
        raise ReadError(
            path, f"has the shape {header.shape}, not (F, x, y, z)", reason="dimensions"
        )
    return np.ascontiguousarray(np.moveaxis(_class_ids(stored, path), -1, 0))


def write_volume(path: Path, volume: Volume) -> None:
    """Write .nii.gz, int16 or float32."""
    write_bytes_atomic(path, write_nifti(volume.array, volume.affine), durable=False)


def write_label_map(path: Path, label_map: LabelMap) -> None:
    """Write .nii.gz, uint8, in the label map's own grid."""
    write_bytes_atomic(path, write_nifti(label_map.array, label_map.affine), durable=False)


def write_findings_mask(path: Path, mask: npt.NDArray[np.uint8]) -> None:
    """Write (F, z, y, x) as ReXGroundingCT does: (F, x, y, z) with the identity as affine."""
    identity = np.diag([-1.0, -1.0, 1.0, 1.0])[:, [2, 1, 0, 3]]
    write_bytes_atomic(path, write_nifti(mask, identity), durable=False)


def stored_sha256(path: Path) -> str:
    """Hash the stored values of a NIfTI file, whatever its compression."""
    return array_sha256(read_nifti(path)[1])


def check_hounsfield(array: npt.NDArray[Any], path: Path) -> None:
    """Refuse values that cannot be Hounsfield units: MR, 0 to 255, rescaled never or twice."""
    lowest = array.min()
    padding = np.count_nonzero(array == lowest) if lowest < _BELOW_AIR_HU else 0
    real = array.size - padding
    below = (np.count_nonzero(array < _BELOW_AIR_HU) - padding) / max(real, 1)
    air = (np.count_nonzero(array < _AIR_HU) - padding) / array.size - below
    soft, fat = _share(array, _SOFT_HU), _share(array, _FAT_HU)
    if below > _MAX_BELOW_AIR:
        fact = f"{below:.0%} of its voxels are below {_BELOW_AIR_HU} HU (rescaled twice?)"
    elif soft < _MIN_SOFT:
        fact = f"only {soft:.1%} of its voxels lie in {_SOFT_HU[0]} to {_SOFT_HU[1]} HU"
    elif air < _MIN_AIR and fat < _MIN_FAT:
        fact = f"it has neither air nor fat (values {lowest} to {array.max()})"
    else:
        return
    raise ReadError(
        path, f"not a CT in Hounsfield units: {fact}", "give a CT in HU", reason="not_hounsfield"
    )


def _share(array: npt.NDArray[Any], limits: tuple[int, int]) -> float:
    low, high = limits
    return np.count_nonzero((array >= low) & (array <= high)) / array.size


def _three_dimensional(header: Header, stored: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    """Drop trailing axes of length 1; refuse 2D, 4D and single slices."""
    shape = header.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < _MIN_EDGE_VOXELS:
        raise ReadError(
            path,
            f"has the shape {' x '.join(map(str, shape))}, not a volume of at least "
            f"{_MIN_EDGE_VOXELS} voxels a side",
            "give one three-dimensional series",
            reason="dimensions",
        )
    return stored.reshape(shape[::-1])


def _scaled(
    header: Header, stored: npt.NDArray[Any], path: Path
) -> npt.NDArray[np.int16] | npt.NDArray[np.float32]:
    """Turn stored values into HU: int16 where that loses nothing, else float32."""
    slope, inter = (header.slope, header.inter) if header.slope else (1.0, 0.0)
    if not np.isfinite([slope, inter]).all():
        raise ReadError(path, f"scales by {slope} and {inter}", reason="scaling")
    whole = float(slope).is_integer() and float(inter).is_integer()
    if whole and stored.dtype.kind in "iu":
        low, high = (int(v) * int(slope) + int(inter) for v in (stored.min(), stored.max()))
        if _INT16.min <= min(low, high) and max(low, high) <= _INT16.max:
            if (slope, inter) == (1.0, 0.0):
                return stored.astype(np.int16)
            return (stored.astype(np.int64) * int(slope) + int(inter)).astype(np.int16)
    return _finite_float32(stored.astype(np.float64) * slope + inter, path)


def _finite_float32(values: npt.NDArray[np.float64], path: Path) -> npt.NDArray[np.float32]:
    damaged = values.size - int(np.count_nonzero(np.isfinite(values)))
    if damaged:
        raise ReadError(
            path,
            f"{damaged} of {values.size} voxels are not finite",
            "reconstruct or convert it again",
            reason="non_finite",
        )
    if np.abs(values).max() > _INT16.max:
        raise ReadError(
            path,
            f"not a CT in Hounsfield units: values reach {np.abs(values).max():g}",
            "give a CT in HU",
            reason="not_hounsfield",
        )
    return values.astype(np.float32)


def _class_ids(stored: npt.NDArray[Any], path: Path) -> npt.NDArray[np.uint8]:
    """Whole numbers 0 to 255 as uint8."""
    ids = stored if stored.dtype == np.uint8 else stored.astype(np.uint8)
    if ids is not stored and not np.array_equal(ids, stored):
        raise ReadError(path, "holds values that are not class ids 0 to 255", reason="class_ids")
    return ids
