"""Reading and writing volumes, label maps and findings masks: the only way files come in and out.

Every file is read strictly (see `formats`) and whole; a refusal names the file, the fact and a
reason slug. Arrays are (z, y, x) in the file's own axis order; F findings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from uvlm.arrays import Array, Ids
from uvlm.data.ct import hounsfield
from uvlm.data.ct.boxes import Box, channels_of
from uvlm.data.ct.find import FoundCt, find_ct
from uvlm.data.ct.formats import metaimage, nifti, nrrd
from uvlm.data.ct.formats.nifti_affine import affine_of
from uvlm.data.ct.formats.stored import CONVERT, StoredImage, volume_shape
from uvlm.data.ct.formats.verified import DICOM_START, opened, starts_dicom
from uvlm.data.ct.volume import Affine, LabelMap, ReadError, Volume, spacing_of
from uvlm.files import write_bytes_atomic

NIFTI: Final = (".nii", ".nii.gz")
_IDENTITY_ROWS: Final = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def read_volume(path: Path) -> Volume:
    """Read a CT in Hounsfield units: an image file, or the one CT below a folder (`find.py`).

    Raises:
        ReadError: the bytes, the geometry or the values are not those of one CT.
    """
    found = find_ct(path)
    image = _read_found(found, path)
    path = path if found.series else found.origin.paths[0]
    array = hounsfield.scaled(image, path)
    hounsfield.check_hounsfield(array, path)
    slices, spacing = array.shape[0], spacing_of(image.affine)
    return Volume(array, image.affine, replace(found.origin, slices=slices, spacing_mm=spacing))


def read_label_map(path: Path) -> LabelMap:
    """Read one class id per voxel, 0 to 255."""
    image = _read_found(find_ct(path), path)
    # NIfTI writes a slope of 0 for "not scaled".
    if image.slope not in (0.0, 1.0) or image.inter != 0.0:
        fact = f"scales its class ids by {image.slope:g} and {image.inter:g}"
        raise ReadError(path, fact, "write the ids themselves", reason="scaling")
    return LabelMap(_class_ids(image.values, path), image.affine)


def read_grid(path: Path) -> tuple[tuple[int, ...], Affine]:
    """Read shape (z, y, x) and affine of a volume; of a NIfTI file, from its header alone."""
    if path.name.lower().endswith(NIFTI):
        header = nifti.read_nifti_header(path)
        return volume_shape(header.layout.shape, path)[::-1], affine_of(header, path)
    image = _read_found(find_ct(path), path)
    return image.values.shape, image.affine


@dataclass(frozen=True, eq=False)
class FindingsMask:
    """Findings, a box each: value k marks the k-th instance of a finding.

    `affine` is None if the file has none, or the identity: its voxels are then those of the CT it
    belongs to.
    """

    boxes: tuple[Box, ...]
    shape: tuple[int, ...]
    affine: Affine | None

    @property
    def array(self) -> Ids:
        """All findings at full size: (F, z, y, x)."""
        return np.stack([box.whole(self.shape) for box in self.boxes])


def read_findings(path: Path) -> FindingsMask:
    """Read a ReXGroundingCT mask; the file's first axis is the finding.

    As published, its affine is the identity. Any other affine belongs to the last three axes.
    """
    header = nifti.read_nifti_header(path)
    shape = header.layout.shape
    if len(shape) != 4:
        raise ReadError(path, f"has the shape {shape}, not (F, x, y, z)", reason="dimensions")
    # Planes are (y, x, F), as the axis that a file lists first comes last here.
    planes = (_class_ids(plane, path) for plane in nifti.read_planes(path, header))
    boxes = tuple(channels_of(planes, shape[0]))
    has_none = header.sform_code <= 0 and header.qform_code <= 0
    is_identity = header.sform_code > 0 and header.srow == _IDENTITY_ROWS
    affine = None if has_none or is_identity else affine_of(header, path)
    return FindingsMask(boxes, shape[:0:-1], affine)


def write_volume(path: Path, volume: Volume) -> None:
    """Write .nii.gz, int16 or float32."""
    _write(path, volume.array, volume.affine)


def write_label_map(path: Path, label_map: LabelMap) -> None:
    """Write .nii.gz, uint8, in the label map's own grid."""
    _write(path, label_map.array, label_map.affine)


def write_findings_mask(path: Path, mask: Ids) -> None:
    """Write (F, z, y, x) as ReXGroundingCT does: (F, x, y, z) with the identity as affine."""
    _write(path, mask, nifti.swap_convention(np.eye(4)))


def _read_found(found: FoundCt, path: Path) -> StoredImage:
    """Read the slices or the file that was found for a path."""
    if found.series:
        from uvlm.data.ct.formats.dicom import read_series  # pydicom takes long to import

        return read_series(found.series, path)
    return _read_file(found.origin.paths[0])


def _read_file(path: Path) -> StoredImage:
    """Hand a file to the module that knows its format."""
    name = path.name.lower()
    if name.endswith(NIFTI):
        header, stored = nifti.read_nifti(path)
        shape = volume_shape(header.layout.shape, path)
        affine = affine_of(header, path)
        return StoredImage(stored.reshape(shape[::-1]), affine, header.slope, header.inter)
    if name.endswith((".nrrd", ".nhdr")):
        return nrrd.read_nrrd(path)
    if name.endswith((".mha", ".mhd")):
        return metaimage.read_metaimage(path)
    with opened(path) as file:
        is_dicom = starts_dicom(file.read(DICOM_START))
    if is_dicom:
        from uvlm.data.ct.formats.dicom import read_file

        return read_file(path)
    fact = "is not a .nii, .nii.gz, .nrrd or .mha file, nor a folder of DICOM files"
    raise ReadError(path, fact, CONVERT, reason="unsupported_format")


def _write(path: Path, array: Array, affine: Affine) -> None:
    write_bytes_atomic(path, nifti.write_nifti(array, affine), durable=False)


def _class_ids(stored: Array, path: Path) -> Ids:
    """Convert whole numbers from 0 to 255 to uint8."""
    ids = stored if stored.dtype == np.uint8 else stored.astype(np.uint8)
    if ids is not stored and not np.array_equal(ids, stored):
        raise ReadError(path, "holds values that are not class ids 0 to 255", reason="class_ids")
    return ids
