"""Reading and writing volumes, label maps and findings masks: the one border of the data.

Every file is read strictly (see `formats`) and whole; what is refused names the file, the fact
and a reason slug. Arrays are (z, y, x) in the file's own axis order; F findings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.data.ct.formats.nifti import read_nifti, read_nifti_header, write_nifti
from uvlm.data.ct.formats.nifti_affine import affine_of
from uvlm.data.ct.formats.reader import read_image
from uvlm.data.ct.formats.stored import volume_shape
from uvlm.data.ct.hounsfield import hounsfield
from uvlm.data.ct.volume import Affine, LabelMap, ReadError, Volume
from uvlm.files import write_bytes_atomic

_IDENTITY_ROWS: Final = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def read_volume(path: Path) -> Volume:
    """Read a CT in Hounsfield units: .nii, .nii.gz, .nrrd, .mha, or a folder of DICOM files.

    Raises:
        ReadError: the bytes, the geometry or the values are not those of one CT.
    """
    image = read_image(path)
    return Volume(hounsfield(image, path), image.affine, image.series)


def read_label_map(path: Path) -> LabelMap:
    """Read one class id per voxel, 0 to 255."""
    image = read_image(path)
    if image.slope not in (0.0, 1.0) or image.inter != 0.0:
        fact = f"scales its class ids by {image.slope:g} and {image.inter:g}"
        raise ReadError(path, fact, "write the ids themselves", reason="scaling")
    return LabelMap(_class_ids(image.values, path), image.affine)


def read_grid(path: Path) -> tuple[tuple[int, ...], Affine]:
    """Read shape (z, y, x) and affine of a volume; of a NIfTI file, from its header alone."""
    if path.name.lower().endswith((".nii", ".nii.gz")):
        header = read_nifti_header(path)
        return volume_shape(header.shape, path)[::-1], affine_of(header, path)
    image = read_image(path)
    return image.values.shape, image.affine


@dataclass(frozen=True, eq=False)
class FindingsMask:
    """Findings (F, z, y, x): value k marks the k-th instance of a finding.

    `affine` is None where the file gives none, or the identity: its voxels are then those of the
    CT it belongs to.
    """

    array: npt.NDArray[np.uint8]
    affine: Affine | None


def read_findings(path: Path) -> FindingsMask:
    """Read a ReXGroundingCT mask; the file's first axis is the finding.

    As published, its affine is the identity. Another one belongs to the last three axes.
    """
    header, stored = read_nifti(path)
    if len(header.shape) != 4:
        raise ReadError(
            path, f"has the shape {header.shape}, not (F, x, y, z)", reason="dimensions"
        )
    array = np.ascontiguousarray(np.moveaxis(_class_ids(stored, path), -1, 0))
    has_none = header.sform_code <= 0 and header.qform_code <= 0
    is_identity = header.sform_code > 0 and header.srow == _IDENTITY_ROWS
    return FindingsMask(array, None if has_none or is_identity else affine_of(header, path))


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


def _class_ids(stored: npt.NDArray[Any], path: Path) -> npt.NDArray[np.uint8]:
    """Whole numbers 0 to 255 as uint8."""
    ids = stored if stored.dtype == np.uint8 else stored.astype(np.uint8)
    if ids is not stored and not np.array_equal(ids, stored):
        raise ReadError(path, "holds values that are not class ids 0 to 255", reason="class_ids")
    return ids
