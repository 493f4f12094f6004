"""One DICOM file's header, as far as a CT needs it; pydicom parses, this module judges.

Positions and directions are in LPS millimetres, as DICOM has them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydicom import dcmread, uid
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError

from uvlm.data.ct.formats.stored import AGAIN, refuse_voxel_type
from uvlm.data.ct.grid_rules import MAX_MM
from uvlm.data.ct.volume import ReadError

Numbers = tuple[float, ...]
_ENHANCED_CT: Final = (uid.EnhancedCTImageStorage, uid.LegacyConvertedEnhancedCTImageStorage)
_HU_TYPES: Final = ("", "HU", "US")


@dataclass(frozen=True, eq=False)
class CtFile:
    """One file of CT pixels and the series that it belongs to."""

    path: Path
    dataset: FileDataset  # without pixels
    series: str  # SeriesInstanceUID
    number: str  # SeriesNumber
    description: str
    is_original: bool


@dataclass(frozen=True)
class SliceHeader:
    """What one slice of the chosen series says about itself."""

    path: Path
    patient: str
    frame: str  # FrameOfReferenceUID
    rows: int
    columns: int
    position: Numbers
    orientation: Numbers  # direction of a row, then of a column
    pixel_spacing: Numbers  # between rows, then between columns
    slice_spacing: float | None  # SpacingBetweenSlices
    slope: float
    inter: float


def read_header(path: Path) -> CtFile | str:
    """Read the header of one file.

    Returns:
        A CT image, or what else the file is.
    """
    with parsing(path):
        dataset = dcmread(path, stop_before_pixels=True)
        if path.name.upper() == "DICOMDIR":
            return "DICOMDIR"
        # De-identification may blank the class in the dataset, but not in the file's own header.
        meta = dataset.file_meta
        kind = uid.UID(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID", ""))
        modality = str(dataset.get("Modality") or "")
        is_ct = kind == uid.CTImageStorage
        if kind in _ENHANCED_CT or (is_ct and int(dataset.get("NumberOfFrames") or 1) > 1):
            return "Enhanced CT, which has to be split into slices"
        if not is_ct or modality != "CT":
            return f"{kind.name} ({modality})"
        words = dataset.get("ImageType") or ()
        image_type = [str(word).upper() for word in ([words] if isinstance(words, str) else words)]
        if "LOCALIZER" in image_type:
            return "localizer"
        series = str(dataset.get("SeriesInstanceUID") or f"no UID, in {path.parent.name}")
        number = str(dataset.get("SeriesNumber") or "")
        description = str(dataset.get("SeriesDescription") or "")
        return CtFile(path, dataset, series, number, description, "ORIGINAL" in image_type)


def slice_header(file: CtFile) -> SliceHeader:
    """Read and check what every slice must have."""
    path, dataset = file.path, file.dataset
    with parsing(path):
        _check_pixels(path, dataset)
        has_gap = dataset.get("SpacingBetweenSlices") not in (None, "")
        return SliceHeader(
            path=path,
            patient=str(dataset.get("PatientID") or ""),
            frame=str(dataset.get("FrameOfReferenceUID") or ""),
            rows=int(_needed(path, dataset, "Rows")),
            columns=int(_needed(path, dataset, "Columns")),
            position=_numbers(path, dataset, "ImagePositionPatient", 3),
            orientation=_numbers(path, dataset, "ImageOrientationPatient", 6),
            pixel_spacing=_numbers(path, dataset, "PixelSpacing", 2),
            slice_spacing=_number(path, dataset, "SpacingBetweenSlices") if has_gap else None,
            slope=_number(path, dataset, "RescaleSlope"),
            inter=_number(path, dataset, "RescaleIntercept"),
        )


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Turn whatever pydicom raises on a damaged file into a refusal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ReadError:
        raise
    except InvalidDicomError:
        fact = "is not DICOM, in a folder of DICOM files"
        remedy = "move it elsewhere, or copy it again"
        raise ReadError(path, fact, remedy, reason="not_dicom") from None
    except OSError as error:
        fact = f"cannot be read ({error.strerror or error})"
        raise ReadError(path, fact, AGAIN, reason="unreadable") from None
    except Exception as error:  # pydicom's errors have no common base class
        fact = f"has a damaged DICOM header ({type(error).__name__}: {error})"
        raise ReadError(path, fact[:300], AGAIN, reason="dicom_header") from None


def _check_pixels(path: Path, dataset: FileDataset) -> None:
    """Check for one signed or unsigned 16-bit number a voxel that scales to HU."""
    samples = int(dataset.get("SamplesPerPixel") or 1)
    photometric = str(dataset.get("PhotometricInterpretation") or "MONOCHROME2")
    bits = int(_needed(path, dataset, "BitsAllocated"))
    if samples != 1 or photometric != "MONOCHROME2":
        refuse_voxel_type(path, f"holds {photometric} with {samples} values a pixel")
    stored, high = int(dataset.get("BitsStored") or bits), dataset.get("HighBit")
    if bits != 16 or not 8 <= stored <= 16 or (high is not None and int(high) != stored - 1):
        refuse_voxel_type(path, f"stores {stored} of {bits} bits a pixel, not up to 16 of 16")
    rescaled = str(dataset.get("RescaleType") or "")
    if rescaled not in _HU_TYPES:
        fact = f"rescales to {rescaled}, not to HU"
        raise ReadError(path, fact, "pass the series in HU", reason="not_hounsfield")


def _needed(path: Path, dataset: FileDataset, name: str) -> Any:
    value = dataset.get(name)
    if value is None or value == "":
        fact = f"has no {name} in its DICOM header"
        remedy = "export the series again from the archive"
        raise ReadError(path, fact, remedy, reason="dicom_header")
    return value


def _numbers(path: Path, dataset: FileDataset, name: str, count: int) -> Numbers:
    value = _needed(path, dataset, name)
    numbers = tuple(map(float, value if count > 1 else [value]))
    if len(numbers) != count or not all(abs(n) <= MAX_MM for n in numbers):
        fact = f"has {value} as {name}, not {count} numbers"
        raise ReadError(path, fact, AGAIN, reason="dicom_header")
    return numbers


def _number(path: Path, dataset: FileDataset, name: str) -> float:
    return _numbers(path, dataset, name, 1)[0]
