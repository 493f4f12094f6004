"""What DICOM objects take from the CT that they belong to, and whether they can be made at all.

    headers of the series -> patient and study (few attributes, legal values)
                          -> slices in the order of the mask's planes, each where the header says

Nothing else of the headers is copied: no private tags, no comments, no other names. Text is
decoded by the CT's own character set and written as UTF-8.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import RE_VALID_UID
from pydicom.valuerep import validate_value

from uvlm.data.ct.find import is_dicom
from uvlm.data.ct.formats.dicom_frames import slice_headers
from uvlm.data.ct.formats.dicom_header import CtFile, SliceHeader, parsing, read_header
from uvlm.data.ct.volume import Volume
from uvlm.dicom.identity import UTF8, made_uid
from uvlm.errors import DataError

OBJECTS: Final = "segmentation, structured report, secondary captures and PDF"
# Whom and which study an archive files an object under: kept as they are, or no object is made.
_IDENTITY: Final = ("PatientID", "PatientName")
# What else belongs to patient and study; a value that DICOM does not allow is left empty.
_EXPECTED: Final = (
    "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
    "ReferringPhysicianName",
)  # fmt: skip
_OPTIONAL: Final = ("IssuerOfPatientID", "StudyDescription", "PatientAge")
_LONGEST_UID: Final = 64
_SEXES: Final = ("M", "F", "O")
_ALIKE: Final = 0.3  # of the distance between planes: how far a slice may lie from its plane


@dataclass(frozen=True, eq=False)
class CtHeaders:
    """A CT as DICOM objects refer to it.

    `images` are its slices in the order of `planes`, or one image of many frames. `planes[i]` is
    the plane of the mask where slice or frame i lies. `notes` say what was missing or not legal.
    """

    images: tuple[Dataset, ...]
    planes: tuple[int, ...]
    spacing_mm: tuple[float, float, float]
    notes: tuple[str, ...]

    @property
    def series(self) -> str:
        """Return the SeriesInstanceUID of the CT."""
        return str(self.images[0].SeriesInstanceUID)


def headers_of(ct: Volume) -> CtHeaders:
    """Take over what the objects of a CT need from the headers of its series.

    Args:
        ct: as it was read; its `origin` names the files, and the masks have its grid.

    Raises:
        DataError: there are no headers, or they cannot carry an object.
    """
    subject, files = _files(ct)
    if files[0].num_frames is not None and len(files) > 1:
        fact = f"is an image in {len(files)} parts, and a segmentation can refer to one only"
        raise DataError(subject, fact, "export the image in one part, or slice by slice")
    notes: list[str] = []
    shared = _patient_and_study(files, subject, notes)
    _add_uids(shared, files, subject, notes)
    slices = [header for file in files for header in slice_headers(file)]
    planes = _planes(slices, ct, subject)
    if files[0].num_frames is not None:
        image = _frames_image(files[0], slices, shared, ct)
        return CtHeaders((image,), tuple(planes), ct.spacing, tuple(notes))
    order = np.argsort(planes)
    images = tuple(_slice_image(files[i], slices[i], shared, ct) for i in order)
    _check_distinct(images, subject)
    return CtHeaders(images, tuple(planes[i] for i in order), ct.spacing, tuple(notes))


def _files(ct: Volume) -> tuple[Path, list[CtFile]]:
    """Read the headers again; returns also what errors call the CT."""
    paths = ct.origin.paths if ct.origin else ()
    subject = paths[0].parent if len(paths) > 1 else paths[0] if paths else Path("CT")
    is_series = ct.origin is not None and ct.origin.kind == "series"
    # A file that was named by itself may hold a whole CT as its frames.
    files = [read_header(path) for path in paths if is_series or is_dicom(path)]
    found = [file for file in files if isinstance(file, CtFile)]
    if not found or len(found) < len(paths):
        fact = f"is no DICOM, and without its patient and study there can be no {OBJECTS}"
        raise DataError(subject, fact, "pass the DICOM folder of this CT to get them")
    return subject, found


def _patient_and_study(files: Sequence[CtFile], subject: Path, notes: list[str]) -> Dataset:
    """Copy what names patient and study, from the first file."""
    first, shared = files[0].dataset, Dataset()
    shared.SpecificCharacterSet = UTF8
    with parsing(files[0].path):
        for name in (*_IDENTITY, *_EXPECTED, *_OPTIONAL):
            text = str(first.get(name) or "").strip("\0 ")
            if text and not _is_legal(first[name], text):
                if name in _IDENTITY:
                    fact = f"has a {name} that DICOM does not allow, so no object can carry it"
                    raise DataError(subject, fact, "correct it in the archive")
                notes.append(f"{name} is not legal and was left empty")
                text = ""
            if text or name not in _OPTIONAL:
                setattr(shared, name, text)
    return shared


def _is_legal(element: DataElement, text: str) -> bool:
    """Whether DICOM allows this as the one value of an attribute, and it could be decoded."""
    if element.VM > 1 or "\ufffd" in text:
        return False
    if element.keyword == "PatientSex":
        return text in _SEXES
    try:
        validate_value(element.VR, text, config.RAISE)
    except ValueError:
        return False
    return True


def _add_uids(shared: Dataset, files: Sequence[CtFile], subject: Path, notes: list[str]) -> None:
    """Add study, series and frame of reference; one that is missing is derived from the slices."""
    first = files[0].dataset
    own = made_uid("slices", *sorted(_instance(file) for file in files))
    remedies = {
        "StudyInstanceUID": "the objects are in a study of their own",
        "SeriesInstanceUID": "the objects refer to a series that no archive has",
        "FrameOfReferenceUID": "the masks have a frame of reference of their own",
    }
    for name, consequence in remedies.items():
        value = str(first.get(name) or "").strip()
        if value and not _is_uid(value):
            raise DataError(subject, f"has a {name} that is no UID", "correct it in the archive")
        if not value:
            notes.append(f"the CT has no {name}: {consequence}")
        setattr(shared, name, value or made_uid(name, own))
    unnamed = sum(not _is_uid(_stated_instance(file)) for file in files)
    if unnamed:
        notes.append(f"{unnamed} slices have no SOPInstanceUID that the objects could refer to")


def _instance(file: CtFile) -> str:
    """Return the SOPInstanceUID; de-identification may blank it, but not in the file's header."""
    stated = _stated_instance(file)
    return stated if _is_uid(stated) else made_uid("slice", file.path.name)


def _stated_instance(file: CtFile) -> str:
    meta = file.dataset.file_meta.get("MediaStorageSOPInstanceUID", "")
    return str(file.dataset.get("SOPInstanceUID") or meta)


def _is_uid(value: str) -> bool:
    return re.fullmatch(RE_VALID_UID, value) is not None and len(value) <= _LONGEST_UID


def _planes(slices: Sequence[SliceHeader], ct: Volume, subject: Path) -> list[int]:
    """Find the plane of the mask where each slice lies, every plane once."""
    step, origin = ct.affine[:3, 0], ct.affine[:3, 3]
    positions = np.array([header.position for header in slices])
    along = (positions - origin) @ step / (step @ step)
    planes = np.rint(along).astype(int)
    away = np.abs(along - planes).max()
    shape = (slices[0].rows, slices[0].columns)
    if sorted(planes) != list(range(len(ct.array))) or away > _ALIKE or shape != ct.array.shape[1:]:
        fact = f"does not have the grid of the masks, {' x '.join(map(str, ct.array.shape))}"
        raise DataError(subject, fact, "pass the CT from which they were made")
    return [int(plane) for plane in planes]


def _check_distinct(images: Sequence[Dataset], subject: Path) -> None:
    count = Counter(str(image.SOPInstanceUID) for image in images)
    if (twice := len(images) - len(count)) > 0:
        fact = f"has {twice} slices whose SOPInstanceUID another slice has too"
        raise DataError(subject, fact, "export the series again: nothing can refer to such a slice")


def _image(file: CtFile, header: SliceHeader, shared: Dataset) -> Dataset:
    """Describe what slice and image of many frames have in common."""
    image = Dataset()
    image.update(shared)
    meta = file.dataset.file_meta
    kind = file.dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID")
    image.SOPClassUID, image.SOPInstanceUID = str(kind), _instance(file)
    image.Modality, image.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.Rows, image.Columns = header.rows, header.columns
    image.PositionReferenceIndicator = ""
    return image


def _place(image: Dataset, header: SliceHeader) -> None:
    image.ImagePositionPatient = [_decimal(value) for value in header.position]


def _slice_image(file: CtFile, header: SliceHeader, shared: Dataset, ct: Volume) -> Dataset:
    image = _image(file, header, shared)
    _place(image, header)
    image.ImageOrientationPatient = [_decimal(value) for value in header.orientation]
    image.PixelSpacing = [_decimal(value) for value in header.pixel_spacing]
    image.SliceThickness = _decimal(ct.spacing[0])
    return image


def _frames_image(
    file: CtFile, frames: Sequence[SliceHeader], shared: Dataset, ct: Volume
) -> Dataset:
    """Describe an image of many frames by its functional groups alone."""
    image, first = _image(file, frames[0], shared), frames[0]
    image.NumberOfFrames = len(frames)
    measures, orientation, everywhere = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [_decimal(value) for value in first.pixel_spacing]
    measures.SliceThickness = _decimal(ct.spacing[0])
    orientation.ImageOrientationPatient = [_decimal(value) for value in first.orientation]
    everywhere.PixelMeasuresSequence = [measures]
    everywhere.PlaneOrientationSequence = [orientation]
    image.SharedFunctionalGroupsSequence = [everywhere]
    image.PerFrameFunctionalGroupsSequence = [_frame(header) for header in frames]
    return image


def _frame(header: SliceHeader) -> Dataset:
    place, groups = Dataset(), Dataset()
    _place(place, header)
    groups.PlanePositionSequence = [place]
    return groups


def _decimal(value: float) -> Any:
    """Write a number as a decimal string of at most 16 characters."""
    text = repr(float(value))
    if len(text) > 16:
        text = next(t for digits in range(15, 0, -1) if len(t := f"{value:.{digits}g}") <= 16)
    return text
