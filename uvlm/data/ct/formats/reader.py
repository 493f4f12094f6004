"""Any file or folder that may hold a CT, given to the module that knows its format."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from uvlm.data.ct.formats.metaimage import read_metaimage
from uvlm.data.ct.formats.nifti import read_nifti
from uvlm.data.ct.formats.nifti_affine import affine_of
from uvlm.data.ct.formats.nrrd import read_nrrd
from uvlm.data.ct.formats.stored import CONVERT, StoredImage, volume_shape
from uvlm.data.ct.formats.verified import opened
from uvlm.data.ct.volume import ReadError

_DICOM_MAGIC_AT: Final = 128


def read_image(path: Path) -> StoredImage:
    """Read one volume of a NIfTI, NRRD or MetaImage file, or of a folder of DICOM files."""
    if path.is_dir():
        from uvlm.data.ct.formats.dicom import read_series

        return read_series(path)
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return _read_nifti(path)
    if name.endswith((".nrrd", ".nhdr")):
        return read_nrrd(path)
    if name.endswith((".mha", ".mhd")):
        return read_metaimage(path)
    with opened(path) as file:
        file.seek(_DICOM_MAGIC_AT)
        if file.read(4) == b"DICM":
            fact, remedy = "is one DICOM file", "give the folder of its whole series"
            raise ReadError(path, fact, remedy, reason="single_slice")
    fact = "is not a .nii, .nii.gz, .nrrd or .mha file, nor a folder of DICOM files"
    raise ReadError(path, fact, CONVERT, reason="unsupported_format")


def _read_nifti(path: Path) -> StoredImage:
    header, stored = read_nifti(path)
    shape = volume_shape(header.shape, path)
    affine = affine_of(header, path)
    return StoredImage(stored.reshape(shape[::-1]), affine, header.slope, header.inter)
