"""Multi-frame CT (Enhanced, Legacy Converted Enhanced): every frame as a slice of its own.

Functional groups say where a frame lies and how its values scale, once for all frames (shared) or
for each (per frame). A concatenation is one image in several files, which all have to be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple

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
_CONCATENATION: Final = (
    "InConcatenationNumber",
    "ConcatenationFrameOffsetNumber",
    "InConcatenationTotalNumber",
)
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
    total = max(max(part.number, part.total) for part in parts)
    lost = sorted(set(range(1, total + 1)) - {part.number for part in parts})
    # Where each part begins, counted in frames, if they follow each other without a gap.
    begins = accumulate((part.length for part in parts), initial=0)
    if lost or any(part.begin != begin for part, begin in zip(parts, begins, strict=False)):
        what = (
            f"without part {', '.join(map(str, lost[:5]))}" if lost else "which do not fit together"
        )
        fact = f"holds an image in {total} parts, {what}"
        remedy = "put all parts of the image into one folder, each once, and pass that"
        raise ReadError(folder, fact, remedy, reason="missing_slices")


class _Part(NamedTuple):
    """One file of a concatenation."""

    number: int
    begin: int  # its first frame, of all
    length: int
    total: int  # how many parts there are; 0 if that is not stated


def _part(file: CtFile) -> _Part:
    number, begin, total = (int(file.dataset.get(name) or 0) for name in _CONCATENATION)
    return _Part(number, begin, file.num_slices, total)
