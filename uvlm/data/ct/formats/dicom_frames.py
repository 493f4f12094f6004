"""Multi-frame CT (Enhanced, Legacy Converted Enhanced): every frame as a slice of its own.

Functional groups say where a frame lies and how its values scale, once for all frames (shared) or
for each (per frame). A concatenation is one image in several files, which all have to be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset

from uvlm.data.ct.formats.dicom_header import CtFile, SliceHeader, parsing, slice_header
from uvlm.data.ct.formats.stored import AGAIN
from uvlm.data.ct.volume import ReadError

_GROUPS: Final = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SpacingBetweenSlices"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "FrameContentSequence": ("StackID", "TemporalPositionIndex"),
    "CTImageFrameTypeSequence": ("FrameType",),
}
_OF_THE_FILE: Final = (
    "PatientID", "FrameOfReferenceUID", "Rows", "Columns", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
)  # fmt: skip
_ONE_OF: Final = (
    ("StackID", "stacks of slices"),
    ("TemporalPositionIndex", "points in time"),
    ("FrameType", "types of frames"),
)


def slice_headers(file: CtFile) -> list[SliceHeader]:
    """Describe every slice of a file, which holds one or, as frames, many."""
    if file.num_frames is None:
        return [slice_header(file.path, file.dataset, None)]
    frames = enumerate(_frames(file))
    return [slice_header(file.path, frame, index) for index, frame in frames]


def _frames(file: CtFile) -> Sequence[Dataset]:
    """Gather the attributes of each frame, as those of a slice are in a file of one."""
    with parsing(file.path):
        shared = file.dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
        own = file.dataset.get("PerFrameFunctionalGroupsSequence") or []
        if len(shared) != 1 or len(own) != file.num_slices:
            fact = f"describes {len(own)} frames of {file.num_slices} in its DICOM header"
            raise ReadError(file.path, fact, AGAIN, reason="dicom_header")
        frames = [_flattened(file, groups, shared[0]) for groups in own]
    for name, what in _ONE_OF:
        values = {str(frame.get(name) or "") for frame in frames}
        if len(values) > 1:
            fact = f"holds {len(values)} {what} in one image ({', '.join(sorted(values))})"
            remedy = "export each as a series of its own"
            raise ReadError(file.path, fact, remedy, reason="mixed_series")
    return frames


def _flattened(file: CtFile, own: Dataset, shared: Dataset) -> Dataset:
    """Bring what is said of the file, of all frames and of one frame into one dataset."""
    flat = Dataset()
    for name in _OF_THE_FILE:
        if name in file.dataset:
            flat[name] = file.dataset[name]
    for group, names in _GROUPS.items():
        items = [item for groups in (own, shared) for item in groups.get(group) or ()]
        if len(items) > 1:
            fact = f"describes a frame by {len(items)} of {group}"
            raise ReadError(file.path, fact, AGAIN, reason="dicom_header")
        for name in names:
            if items and name in items[0]:
                flat[name] = items[0][name]
    return flat


def check_parts(files: Sequence[CtFile], folder: Path) -> None:
    """Check that multi-frame files are one image, alone or as a concatenation with all parts."""
    if all(file.num_slices == 1 for file in files):
        return
    names = {str(file.dataset.get("ConcatenationUID") or file.path) for file in files}
    if len(names) > 1:
        fact = f"holds {len(names)} multi-frame images in one series"
        remedy = "pass a folder with the file or files of one of them"
        raise ReadError(folder, fact, remedy, reason="mixed_series")
    if "ConcatenationUID" not in files[0].dataset:
        return
    with parsing(files[0].path):
        parts = sorted(map(_part, files))
        total = max(max(total for *_, total in parts), len(parts))
    begin = 0
    for number, (found, start, length, _) in enumerate(parts, 1):
        if (found, start) != (number, begin):
            _refuse_incomplete(folder, number, total)
        begin += length
    if total != len(parts):
        _refuse_incomplete(folder, total, total)


def _part(file: CtFile) -> tuple[int, int, int, int]:
    """Read the number of this part, its first frame, its frames, and the number of parts or 0."""
    values: Any = [
        file.dataset.get(name) or 0
        for name in (
            "InConcatenationNumber",
            "ConcatenationFrameOffsetNumber",
            "InConcatenationTotalNumber",
        )
    ]
    number, start, total = map(int, values)
    return number, start, file.num_slices, total


def _refuse_incomplete(folder: Path, number: int, total: int) -> None:
    fact = f"holds one image in {total} parts, of which part {number} is missing or there twice"
    remedy = "put all parts of the image into one folder and pass that"
    raise ReadError(folder, fact, remedy, reason="missing_slices")
