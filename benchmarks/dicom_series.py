"""A volume as a DICOM series, native or compressed, with file names that give no order."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK as sitk
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID

from uvlm.data.ct.volume import Volume

SYNTAXES: Final = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "deflated": "1.2.840.10008.1.2.1.99",
    "big_endian": "1.2.840.10008.1.2.2",
    "rle": "1.2.840.10008.1.2.5",
    "jpeg_lossless": "1.2.840.10008.1.2.4.70",
    "jpeg_ls": "1.2.840.10008.1.2.4.80",
    "jpeg_2000": "1.2.840.10008.1.2.4.90",
}
CT: Final = UID("1.2.840.10008.5.1.4.1.1.2")
INTERCEPT: Final = -1024
_ITK_NAMES: Final = {"jpeg_lossless": "JPEG", "jpeg_2000": "JPEG2000"}
Edit = Callable[[FileDataset, int], bool]


def write_series(
    folder: Path,
    volume: Volume,
    *,
    syntax: str = "explicit",
    series: str = "1",
    edit: Edit | None = None,
) -> None:
    """Write one file a slice, stored as HU + 1024 in 16 unsigned bits.

    Args:
        folder: made if need be.
        volume: whole HU from -1024; its last two axes become columns and rows.
        syntax: a key of `SYNTAXES`.
        series: number of the series, part of its UID.
        edit: changes the dataset of slice k before it is written; False leaves the file out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = (volume.array.astype(np.int32) - INTERCEPT).astype(np.uint16)
    for number, plane in enumerate(stored):
        dataset = _slice(volume, number, series)
        set_pixels(dataset, plane, syntax)
        if edit is None or edit(dataset, number):
            name = f"{(number * 7919 + 13) % 10007:05d}_{series}"
            pydicom.dcmwrite(
                folder / name,
                dataset,
                implicit_vr=syntax == "implicit",
                little_endian=syntax != "big_endian",
                enforce_file_format=True,
            )


def _slice(volume: Volume, number: int, series: str) -> FileDataset:
    """Describe slice `number`: its position and scaling."""
    affine, (z, y, x) = volume.affine, volume.spacing
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CT
    meta.MediaStorageSOPInstanceUID = UID(f"2.25.{series}.{number + 1}")
    dataset = FileDataset("slice", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PatientID, dataset.PatientName = "phantom", "Phantom"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.7", f"2.25.{series}"
    dataset.FrameOfReferenceUID = "2.25.8"
    dataset.SeriesNumber, dataset.InstanceNumber = int(series), number + 1
    dataset.SeriesDescription = f"Chest {series}"
    dataset.ImagePositionPatient = text((affine @ [number, 0, 0, 1])[:3])
    dataset.ImageOrientationPatient = text([*affine[:3, 2] / x, *affine[:3, 1] / y])
    dataset.PixelSpacing, dataset.SliceThickness = text([y, x]), f"{z:.6g}"
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", str(INTERCEPT)
    dataset.RescaleType = "HU"
    return dataset


def set_pixels(dataset: FileDataset, plane: npt.NDArray[np.uint16], syntax: str) -> None:
    """Describe and encode the pixels of one slice."""
    uid = UID(SYNTAXES[syntax])
    dataset.file_meta.TransferSyntaxUID = uid
    dataset.Rows, dataset.Columns = plane.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    if syntax in _ITK_NAMES:
        dataset.PixelData = _encoded_by_itk(plane, _ITK_NAMES[syntax])
        dataset["PixelData"].is_undefined_length = True
        dataset["PixelData"].VR = "OB"
    elif syntax in ("rle", "jpeg_ls"):
        dataset.compress(uid, plane, generate_instance_uid=False)
    else:
        order = ">u2" if syntax == "big_endian" else "<u2"
        dataset.PixelData = plane.astype(order).tobytes()
        dataset["PixelData"].VR = "OW"


def _encoded_by_itk(plane: npt.NDArray[np.uint16], compressor: str) -> Any:
    """Let GDCM compress a slice, and take the encapsulated pixels out of its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.dcm"
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetUseCompression(True)
        writer.SetCompressor(compressor)
        writer.SetFileName(str(path))
        writer.Execute(sitk.GetImageFromArray(plane[None]))
        return pydicom.dcmread(path).PixelData


def text(values: Any) -> list[str]:
    """Write numbers as decimal strings of at most 16 characters."""
    return [f"{float(value):.9g}"[:16] for value in values]
