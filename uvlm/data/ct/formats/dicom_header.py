"""One DICOM file's header, as far as a CT needs it; pydicom parses, this module judges.

Positions and directions are in LPS millimetres, as DICOM has them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from uvlm.data.ct.formats.stored import AGAIN, refuse_voxel_type
from uvlm.data.ct.grid_rules import MAX_MM
from uvlm.data.ct.volume import ReadError

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset
    from pydicom.uid import UID

Numbers = tuple[float, ...]
CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_ENHANCED_CT: Final = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
_HU_TYPES: Final = ("", "HU", "US")


@dataclass(frozen=True, eq=False)
class CtFile:
    """One file of CT pixels and the series that it belongs to."""

    path: Path
    dataset: FileDataset  # without pixels
    series: str  # SeriesInstanceUID
    number: str  # SeriesNumber
    description: str
    image_type: tuple[str, ...]


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
        dataset = read_dataset(path, pixels=False)
        kind = _class_of(dataset)
        modality = str(dataset.get("Modality") or "")
        if path.name.upper() == "DICOMDIR":
            return "DICOMDIR"
        if kind in _ENHANCED_CT or (kind == CT and int(dataset.get("NumberOfFrames") or 1) > 1):
            return "Enhanced CT, which has to be split into slices"
        if kind != CT or modality != "CT":
            return f"{kind.name} ({modality})"
        return CtFile(
            path=path,
            dataset=dataset,
            series=str(dataset.get("SeriesInstanceUID") or f"no UID, in {path.parent.name}"),
            number=str(dataset.get("SeriesNumber") or ""),
            description=str(dataset.get("SeriesDescription") or ""),
            image_type=_words(dataset.get("ImageType")),
        )


def slice_header(file: CtFile) -> SliceHeader:
    """Read what a slice needs to have."""
    path, dataset = file.path, file.dataset
    with parsing(path):
        _check_pixels(path, dataset)
        return SliceHeader(
            path=path,
            patient=str(dataset.get("PatientID") or ""),
            frame=str(dataset.get("FrameOfReferenceUID") or ""),
            rows=int(_needed(path, dataset, "Rows")),
            columns=int(_needed(path, dataset, "Columns")),
            position=_numbers(path, dataset, "ImagePositionPatient", 3),
            orientation=_numbers(path, dataset, "ImageOrientationPatient", 6),
            pixel_spacing=_numbers(path, dataset, "PixelSpacing", 2),
            slice_spacing=_optional(path, dataset, "SpacingBetweenSlices"),
            slope=_numbers(path, dataset, "RescaleSlope", 1)[0],
            inter=_numbers(path, dataset, "RescaleIntercept", 1)[0],
        )


def read_dataset(path: Path, *, pixels: bool) -> FileDataset:
    """Parse a file; the caller stands inside `parsing`."""
    from pydicom import dcmread

    return dcmread(path, stop_before_pixels=not pixels)


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Turn whatever pydicom raises on a damaged file into a refusal; it names no base class."""
    from pydicom.errors import InvalidDicomError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ReadError:
        raise
    except InvalidDicomError:
        fact = "is not DICOM, in a folder of DICOM files"
        raise ReadError(
            path, fact, "move it elsewhere, or copy it again", reason="not_dicom"
        ) from None
    except OSError as error:
        fact = f"cannot be read ({error.strerror or error})"
        raise ReadError(path, fact, AGAIN, reason="unreadable") from None
    except Exception as error:
        fact = f"has a damaged DICOM header ({type(error).__name__}: {error})"
        raise ReadError(path, fact[:300], AGAIN, reason="dicom_header") from None


def _class_of(dataset: FileDataset) -> UID:
    """Take the SOP class from the dataset, or from the file where de-identification blanked it."""
    from pydicom.uid import UID

    return UID(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID", ""))


def _check_pixels(path: Path, dataset: FileDataset) -> None:
    """One signed or unsigned 16-bit number a voxel, which scales to HU."""
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
        raise ReadError(path, fact, "give the series in HU", reason="not_hounsfield")


def _needed(path: Path, dataset: FileDataset, name: str) -> Any:
    value = dataset.get(name)
    if value is None or value == "":
        raise ReadError(
            path,
            f"has no {name} in its DICOM header",
            "export the series again from the archive",
            reason="dicom_header",
        )
    return value


def _numbers(path: Path, dataset: FileDataset, name: str, count: int) -> Numbers:
    value = _needed(path, dataset, name)
    numbers = tuple(map(float, value if count > 1 else [value]))
    if len(numbers) != count or not all(abs(n) <= MAX_MM for n in numbers):
        fact = f"has {value} as {name}, not {count} numbers"
        raise ReadError(path, fact, AGAIN, reason="dicom_header")
    return numbers


def _optional(path: Path, dataset: FileDataset, name: str) -> float | None:
    return None if dataset.get(name) in (None, "") else _numbers(path, dataset, name, 1)[0]


def _words(value: str | Sequence[str] | None) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else value or ()
    return tuple(str(word).upper() for word in words)
