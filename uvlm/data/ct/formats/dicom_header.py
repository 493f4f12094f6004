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
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError

from uvlm.data.ct.formats.stored import AGAIN, refuse_voxel_type
from uvlm.data.ct.formats.verified import starts_bare_dicom
from uvlm.data.ct.grid_rules import MAX_MM
from uvlm.data.ct.volume import ReadError

Numbers = tuple[float, ...]
_MULTI_FRAME: Final = (uid.EnhancedCTImageStorage, uid.LegacyConvertedEnhancedCTImageStorage)
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
    num_frames: int | None = None  # None in a file of one slice

    @property
    def num_slices(self) -> int:
        """How many slices the file holds."""
        return 1 if self.num_frames is None else self.num_frames


@dataclass(frozen=True)
class SliceHeader:
    """What one slice of the chosen series says about itself."""

    path: Path
    frame_index: int | None  # in a multi-frame file
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

    @property
    def name(self) -> str:
        """Name the slice to people."""
        name, index = self.path.name, self.frame_index
        return name if index is None else f"frame {index + 1} of {name}"


def read_header(path: Path) -> CtFile | str:
    """Read the header of one file.

    Returns:
        A CT image, or what else the file is.
    """
    with parsing(path):
        dataset = read_dataset(path, stop_before_pixels=True)
        if path.name.upper() == "DICOMDIR":
            return "DICOMDIR"
        # De-identification may blank the class in the dataset, but not in the file's own header.
        meta = dataset.file_meta
        kind = uid.UID(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID", ""))
        modality = str(dataset.get("Modality") or "")
        num_frames, is_multi_frame = int(dataset.get("NumberOfFrames") or 1), kind in _MULTI_FRAME
        if not (kind == uid.CTImageStorage or is_multi_frame) or modality != "CT":
            return f"{kind.name} ({modality})"
        if num_frames < 1 or (num_frames > 1 and not is_multi_frame):
            return f"CT image of {num_frames} frames whose places are not stated"
        words = dataset.get("ImageType") or ()
        image_type = [str(word).upper() for word in ([words] if isinstance(words, str) else words)]
        if "LOCALIZER" in image_type:
            return "localizer"
        series = str(dataset.get("SeriesInstanceUID") or f"no UID, in {path.parent.name}")
        number = str(dataset.get("SeriesNumber") or "")
        description = str(dataset.get("SeriesDescription") or "")
        is_original = "ORIGINAL" in image_type
        frames = num_frames if is_multi_frame else None
        return CtFile(path, dataset, series, number, description, is_original, frames)


def read_dataset(path: Path, *, stop_before_pixels: bool = False) -> FileDataset:
    """Parse a file; without preamble too, if all that a DICOM image begins with is there."""
    with path.open("rb") as file:
        is_bare = starts_bare_dicom(file.read(8))
    dataset = dcmread(path, stop_before_pixels=stop_before_pixels, force=is_bare)
    if is_bare and not ("SOPClassUID" in dataset and "SOPInstanceUID" in dataset):
        raise InvalidDicomError
    if "TransferSyntaxUID" not in dataset.file_meta:
        is_implicit, _ = dataset.original_encoding
        bare = uid.ImplicitVRLittleEndian if is_implicit else uid.ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = bare
    return dataset


def slice_header(path: Path, dataset: Dataset, frame_index: int | None) -> SliceHeader:
    """Read and check what every slice must have."""
    with parsing(path):
        _check_pixels(path, dataset)
        has_gap = dataset.get("SpacingBetweenSlices") not in (None, "")
        return SliceHeader(
            path=path,
            frame_index=frame_index,
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


def _check_pixels(path: Path, dataset: Dataset) -> None:
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


def _needed(path: Path, dataset: Dataset, name: str) -> Any:
    value = dataset.get(name)
    if value is None or value == "":
        fact = f"has no {name} in its DICOM header"
        remedy = "export the series again from the archive"
        raise ReadError(path, fact, remedy, reason="dicom_header")
    return value


def _numbers(path: Path, dataset: Dataset, name: str, count: int) -> Numbers:
    value = _needed(path, dataset, name)
    numbers = tuple(map(float, value if count > 1 else [value]))
    if len(numbers) != count or not all(abs(n) <= MAX_MM for n in numbers):
        fact = f"has {value} as {name}, not {count} numbers"
        raise ReadError(path, fact, AGAIN, reason="dicom_header")
    return numbers


def _number(path: Path, dataset: Dataset, name: str) -> float:
    return _numbers(path, dataset, name, 1)[0]
