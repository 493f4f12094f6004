"""A volume as Enhanced CT: all slices as frames of one file, or of the parts of a concatenation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID

from benchmarks.dicom_series import INTERCEPT, SYNTAXES, set_pixels, text
from uvlm.data.ct.volume import Volume

ENHANCED: Final = UID("1.2.840.10008.5.1.4.1.1.2.1")
LEGACY_CONVERTED: Final = UID("1.2.840.10008.5.1.4.1.1.2.2")
SHARED: Final = (
    "PlaneOrientation",
    "PixelMeasures",
    "PixelValueTransformation",
    "CTImageFrameType",
)
Edit = Callable[[FileDataset], None]


def write_enhanced(
    path: Path,
    volume: Volume,
    *,
    syntax: str = "explicit",
    order: Sequence[int] | None = None,
    shared: Sequence[str] = SHARED,
    table: bool = True,
    series: str = "1",
    edit: Edit | None = None,
) -> None:
    """Write one file, stored as HU + 1024 in 16 unsigned bits.

    Args:
        path: the file.
        volume: whole HU from -1024; its last two axes become columns and rows.
        syntax: a key of `dicom_series.SYNTAXES`.
        order: which slice each frame holds; from the first to the last if not given.
        shared: functional groups that are written once for all frames.
        table: whether compressed frames have a table of their offsets.
        series: number of the series, part of its UID.
        edit: changes the dataset before it is written.
    """
    numbers = list(order if order is not None else range(len(volume.array)))
    dataset = _head(volume, series)
    per_frame = [_groups(volume, number, place) for place, number in enumerate(numbers)]
    common = Dataset()
    for name in (f"{group}Sequence" for group in shared):
        setattr(common, name, getattr(per_frame[0], name))
        for groups in per_frame:
            delattr(groups, name)
    dataset.SharedFunctionalGroupsSequence = [common]
    dataset.PerFrameFunctionalGroupsSequence = per_frame
    stored = (volume.array[numbers].astype(np.int32) - INTERCEPT).astype(np.uint16)
    _set_frames(dataset, stored, syntax, table=table)
    if edit is not None:
        edit(dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    little = syntax != "big_endian"
    pydicom.dcmwrite(
        path,
        dataset,
        implicit_vr=syntax == "implicit",
        little_endian=little,
        enforce_file_format=True,
    )


def write_parts(
    folder: Path, volume: Volume, lengths: Sequence[int], *, total: bool = True
) -> None:
    """Write a concatenation whose parts have these numbers of slices."""
    begin = 0
    for number, length in enumerate(lengths, 1):
        affine = volume.affine.copy()
        affine[:3, 3] = (volume.affine @ [begin, 0, 0, 1])[:3]
        part = Volume(volume.array[begin : begin + length], affine)

        def joined(dataset: FileDataset, number: int = number, begin: int = begin) -> None:
            dataset.SOPInstanceUID = f"2.25.99.{number}"
            dataset.ConcatenationUID, dataset.InConcatenationNumber = "2.25.99", number
            dataset.ConcatenationFrameOffsetNumber = begin
            if total:
                dataset.InConcatenationTotalNumber = len(lengths)

        write_enhanced(folder / f"part{number}", part, edit=joined)
        begin += length


def _head(volume: Volume, series: str) -> FileDataset:
    """Describe the file."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        ENHANCED,
        UID(f"2.25.{series}.1"),
    )
    dataset = FileDataset("enhanced", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = ENHANCED, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.PatientID, dataset.PatientName = "phantom", "Phantom"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.7", f"2.25.{series}"
    dataset.FrameOfReferenceUID = "2.25.8"
    dataset.SeriesNumber, dataset.InstanceNumber = int(series), 1
    dataset.SeriesDescription = f"Chest {series}"
    return dataset


def _groups(volume: Volume, number: int, place: int) -> Dataset:
    """Describe the frame at a place of the file, which holds slice `number`."""
    affine, (z, y, x) = volume.affine, volume.spacing
    contents: dict[str, dict[str, Any]] = {
        "PlanePosition": {"ImagePositionPatient": text((affine @ [number, 0, 0, 1])[:3])},
        "PlaneOrientation": {
            "ImageOrientationPatient": text([*affine[:3, 2] / x, *affine[:3, 1] / y])
        },
        "PixelMeasures": {"PixelSpacing": text([y, x]), "SliceThickness": f"{z:.6g}"},
        "PixelValueTransformation": {
            "RescaleSlope": "1",
            "RescaleIntercept": str(INTERCEPT),
            "RescaleType": "HU",
        },
        "FrameContent": {
            "StackID": "1",
            "InStackPositionNumber": number + 1,
            "DimensionIndexValues": [1, number + 1],
            "FrameAcquisitionNumber": 1 + place,
        },
        "CTImageFrameType": {"FrameType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]},
    }
    groups = Dataset()
    for name, values in contents.items():
        item = Dataset()
        for attribute, value in values.items():
            setattr(item, attribute, value)
        setattr(groups, f"{name}Sequence", [item])
    return groups


def _set_frames(
    dataset: FileDataset, stored: npt.NDArray[np.uint16], syntax: str, *, table: bool
) -> None:
    """Compress frame by frame, as single slices are, and join the streams."""
    set_pixels(dataset, stored[0], syntax)
    dataset.NumberOfFrames = len(stored)
    if dataset["PixelData"].is_undefined_length:
        streams: list[bytes] = []
        for plane in stored:
            one = FileDataset("one", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
            set_pixels(one, plane, syntax)
            streams += generate_frames(one.PixelData, number_of_frames=1)
        dataset.PixelData = encapsulate(streams, has_bot=table)
        dataset["PixelData"].is_undefined_length = True
    else:
        order = ">u2" if syntax == "big_endian" else "<u2"
        dataset.PixelData = stored.astype(order).tobytes()
    dataset.file_meta.TransferSyntaxUID = UID(SYNTAXES[syntax])
