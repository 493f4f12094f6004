"""All DICOM objects of one draft, in a folder of their own, all or none.

masks.dcm        SEG, a segment for each structure and for each lesion
report.dcm       structured report, template TID 1500
plane_01.dcm...  secondary captures of the key planes
pdf.dcm          encapsulated PDF
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from uvlm.data.ct.volume import LabelMap, Volume
from uvlm.dicom.documents import encapsulated_pdf, secondary_capture
from uvlm.dicom.headers import CtHeaders, headers_of
from uvlm.dicom.identity import identity_of
from uvlm.dicom.key_planes import Shown, pictures
from uvlm.dicom.pdf import pdf_of
from uvlm.dicom.place import remove_objects
from uvlm.dicom.segmentation import segmentation
from uvlm.dicom.segments import Segments, segments_of
from uvlm.dicom.structured_report import structured_report
from uvlm.files import filling_folder
from uvlm.text.draft import Draft


@dataclass(frozen=True, eq=False)
class Content:
    """What the objects say: the draft, and the masks on the grid of the CT where there are any."""

    draft: Draft
    ct: Volume  # `origin` says which files it was read from
    masks: LabelMap | None
    class_names: Sequence[str]

    def masks_sha256(self) -> str:
        """Hash the masks; empty without masks."""
        if self.masks is None:
            return ""
        digest = hashlib.sha256(np.ascontiguousarray(self.masks.array).data)
        digest.update("\0".join([str(self.masks.array.shape), *self.class_names]).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Written:
    """The files, and in words what was missing in the CT's headers or could not be made."""

    files: tuple[Path, ...]
    notes: tuple[str, ...]


def write_objects(content: Content, folder: Path) -> Written:
    """Write the objects of a draft; those of an older one are replaced, other files stay.

    Raises:
        DataError: the CT is no DICOM series, or its headers cannot carry an object.
    """
    headers = headers_of(content.ct)
    names, notes = [], list(headers.notes)
    with filling_folder(folder, keep_others=True) as temporary:
        for name, made in _objects(headers, content, notes):
            made.save_as(temporary / name, enforce_file_format=True)
            names.append(name)
        remove_objects(folder, all_but=names)
    return Written(tuple(folder / name for name in names), tuple(notes))


def _objects(
    headers: CtHeaders, content: Content, notes: list[str]
) -> Iterator[tuple[str, Dataset]]:
    """Make one object after the other, each with its file name."""
    draft = content.draft
    identity = identity_of(draft, headers.series, content.masks_sha256())
    segments, masks = Segments.none(), None
    if content.masks is not None:
        segments = segments_of(content.masks, content.class_names)
    if segments.listed:
        masks = segmentation(headers, segments, identity)
        yield "masks.dcm", masks
    else:
        notes.append("no masks, so no segmentation, volumes or key planes")
    yield "report.dcm", structured_report(headers, draft, segments, masks, identity)
    if content.masks is not None and segments.listed:
        shown = Shown.of(content.ct, content.masks, segments, content.class_names)
        for number, picture in enumerate(pictures(shown, segments.lesions), start=1):
            capture = secondary_capture(headers, picture, identity, number)
            yield f"plane_{number:02d}.dcm", capture
    pdf = pdf_of(draft, segments.listed, headers.notes)
    yield "pdf.dcm", encapsulated_pdf(headers, pdf, identity)
