"""Which of several CT series is the CT: chosen by geometry first, refused where it is a guess.

    unreadable, localizing or repeated  <  other parts of the body  <  derived  <  original, axial
    among equals those that show nearly as much as the widest one, and of these the most slices

More slices of the same body are thinner slices, so 1 mm wins over 3 mm whatever the kernel. Series
of two patients or of two examinations, and two of nearly as many slices, are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from uvlm.data.ct.formats.dicom_frames import slice_headers
from uvlm.data.ct.formats.dicom_header import CtFile, SliceHeader
from uvlm.data.ct.formats.dicom_tags import tag
from uvlm.data.ct.formats.stored import MIN_EDGE_VOXELS
from uvlm.data.ct.origin import LeftOut, in_words, salted_id
from uvlm.data.ct.volume import AmbiguousCt, ReadError

_ONE_PLACE_MM: Final = 0.01
_REPEATED: Final = 1.5  # images a place: a few copies are a fault, many are a time series
_SHOWS_ENOUGH: Final = 0.75  # of the widest series, in every direction
_AS_MANY: Final = 0.95  # of the slices: neither series is better
_AXIAL: Final = 0.7  # cosine between the normal of the slices and the patient's long axis
_MADE: Final = re.compile(
    r"\b(mip|minip|mpr|vrt|ssd|cor|coronal|sag|sagittal|reformat\w*|scout|topogram|locali[sz]er|"
    r"surview|dose (?:report|info\w*|record)|screen ?save|key ?images?|test ?bolus|"
    r"bolus ?track\w*|(?:pre)?monitoring|smart ?prep)\b"
)
_CHEST: Final = re.compile(r"chest|thora|lung|pulmo|heart|cardia|coronary|\b(?:body|torso)\b")
_ELSEWHERE: Final = re.compile(
    r"\b(?:head|brain|skull|neck|sinus|orbit|abdom|pelvi|liver|kidney|spine|knee|ankle|extrem|wrist|"
    r"elbow|shoulder|(?:hip|leg|foot|hand)s?\b)"
)


@dataclass(frozen=True, eq=False)
class Series:
    """The files of one SeriesInstanceUID, and what can be said of them before any pixel is read."""

    files: Sequence[CtFile]

    def left_out(self, reason: str) -> LeftOut:
        """Say why it was not read; UID and description may identify a patient."""
        first, paths = self.files[0], tuple(file.path for file in self.files)
        number = f"series {first.number}" if first.number else "a series without a number"
        salted = salted_id(first.series)
        return LeftOut(paths, number, reason, salted, self.num_slices, self.real_name)

    @property
    def real_name(self) -> str:
        """Return what may identify a patient: UID and description."""
        return f"{self.files[0].series} {self.files[0].description!r}"

    @cached_property
    def slices(self) -> list[SliceHeader]:
        """Headers of the slices that have all a slice needs."""
        return [header for file in self.files for header in _headers(file)]

    @property
    def num_slices(self) -> int:
        """How many slices it is said to have, readable or not."""
        return sum(file.num_slices for file in self.files)

    @cached_property
    def places(self) -> list[float]:
        """Heights in mm along the normal of the first slice, each once, in order."""
        return _apart(sorted(float(self.normal @ header.position) for header in self.slices))

    @cached_property
    def normal(self) -> Any:
        """Direction in which the slices follow each other."""
        return np.cross(*np.reshape(self.slices[0].orientation, (2, 3)))

    @cached_property
    def extent_mm(self) -> tuple[float, ...]:
        """How much of the body it shows: across the slices, down and along a row."""
        first, steps = self.slices[0], max(1, len(self.places) - 1)
        rows, columns = first.pixel_spacing
        depth = (self.places[-1] - self.places[0]) * (steps + 1) / steps
        return depth, first.rows * rows, first.columns * columns

    def unfit(self) -> str:
        """Say why this cannot be a CT of the chest, if so; a damaged one still can be."""
        count = self.num_slices
        if count < MIN_EDGE_VOXELS:
            return f"fewer than {MIN_EDGE_VOXELS} slices"
        if 2 * len(self.slices) < count:
            return "no slices of a CT"
        places = len(self.places)
        if places < MIN_EDGE_VOXELS or count >= _REPEATED * places:
            return f"{count} images of {places} {'place' if places == 1 else 'places'}"
        return ""

    def elsewhere(self) -> str:
        """Name another part of the body that it is tagged with, if the chest is not."""
        first = self.files[0]
        words = f"{tag(first, 'BodyPartExamined')} {first.description}".lower().replace("_", " ")
        found = None if _CHEST.search(words) else _ELSEWHERE.search(words)
        return f"tagged as another part of the body ({found[0]})" if found else ""

    def derived(self) -> str:
        """Say why it is made from other images or serves another purpose, if so."""
        first = self.files[0]
        if not first.is_original:
            return "derived from other images"
        words = f"{first.description} {tag(first, 'ImageType')}".lower().replace("_", " ")
        if found := _MADE.search(words):
            return f"tagged as {found[0]}"
        return "" if abs(self.normal[2]) > _AXIAL else "not axial"


def choose(series: Sequence[Series], folder: Path) -> tuple[Series, list[LeftOut]]:
    """Choose the series that is the CT, and say why each of the others is not.

    Raises:
        AmbiguousCt: there are two patients, two examinations, or two equally good series.
    """
    if len(series) == 1:
        return series[0], []
    _check_one(series, "patients", _patient, folder)
    left: list[LeftOut] = []
    series = _without(series, [one.unfit() for one in series], left)
    if not series[0].unfit():  # else nothing here can be read, and the fault of the largest is told
        for reason_of in (Series.elsewhere, Series.derived):
            series = _without(series, [reason_of(one) for one in series], left)
        series = _without(series, _partial(series), left)
        _check_one(series, "examinations", _examination, folder)
        _check_best(series, folder)
    chosen, *others = sorted(series, key=_size)
    return chosen, left + [one.left_out("fewer slices") for one in others]


def _without(
    series: Sequence[Series], reasons: Sequence[str], left: list[LeftOut]
) -> Sequence[Series]:
    """Leave out the series with a reason against them, unless that would leave none."""
    good = [one for one, reason in zip(series, reasons, strict=True) if not reason]
    if not good:
        return series
    left += [one.left_out(reason) for one, reason in zip(series, reasons, strict=True) if reason]
    return good


def _partial(series: Sequence[Series]) -> list[str]:
    """Say which series show only a part of what the widest one shows."""
    widest = np.max([one.extent_mm for one in series], axis=0)
    reasons = []
    for one in series:
        narrow = np.flatnonzero(np.array(one.extent_mm) < _SHOWS_ENOUGH * widest)
        sizes = [f"{one.extent_mm[axis]:.0f} of {widest[axis]:.0f} mm" for axis in narrow[:1]]
        reasons.append(f"shows only {sizes[0]}" if sizes else "")
    return reasons if not all(reasons) else [""] * len(series)


def _check_one(
    series: Sequence[Series], what: str, name_of: Callable[[CtFile], str], folder: Path
) -> None:
    """Refuse series that belong to several patients or examinations; an empty name says nothing."""
    by_name: dict[str, Series] = {}
    for one in series:
        if name := name_of(one.files[0]):
            by_name.setdefault(name, one)
    if len(by_name) > 1:
        ids = in_words([f"id {salted_id(name)}" for name in sorted(by_name)])
        named = in_words(sorted(by_name))
        text = f"holds CTs of {len(by_name)} {what}: "
        remedy = f"pass a folder with one of the {what}"
        raise AmbiguousCt(folder, text + ids, remedy, reason=f"several_{what}", named=text + named)


def _check_best(series: Sequence[Series], folder: Path) -> None:
    """Refuse series of nearly as many slices: nothing says which is meant."""
    most = max(one.num_slices for one in series)
    equal = [one for one in sorted(series, key=_size) if one.num_slices > _AS_MANY * most]
    if len(equal) > 1:
        fact, named = (
            f"holds {len(equal)} equally good series: "
            + in_words([one.left_out("").to_text(names=names) for one in equal])
            for names in (False, True)
        )
        remedy = "pass a folder with the one that is meant"
        raise AmbiguousCt(folder, fact, remedy, reason="several_series", named=named)


def _size(one: Series) -> tuple[int, float, str]:
    """Order by slices, then by number, so that the order of the files does not matter."""
    first = one.files[0]
    number = float(first.number) if first.number.lstrip("-").isdigit() else float("inf")
    return -one.num_slices, number, first.series


def _patient(file: CtFile) -> str:
    return tag(file, "PatientID") or tag(file, "PatientName")


def _examination(file: CtFile) -> str:
    """Name the examination; both date and UID must be there, as either may have been replaced."""
    parts = [tag(file, name) for name in ("StudyDate", "StudyInstanceUID")]
    return " ".join(parts) if all(parts) else ""


def _headers(file: CtFile) -> list[SliceHeader]:
    try:
        return slice_headers(file)
    except ReadError:
        return []


def _apart(heights: Sequence[float]) -> list[float]:
    """Keep one of the heights that are the same place."""
    kept: list[float] = []
    for height in heights:
        if not kept or height - kept[-1] >= _ONE_PLACE_MM:
            kept.append(height)
    return kept
