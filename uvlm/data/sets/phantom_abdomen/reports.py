"""Structured reports in the form of AbdomenAtlas': organ by organ, measured from the masks.

    Liver: Normal size (volume: 1204.2 cc). Mean HU value: 98.1 +/- 14.9.
    Liver lesions: Liver lesion 1: Location: hepatic segment 2. Size: 3.1 x 1.6 cm (image 17). ...

Volumes are those of the phantom's own voxels, so they are no body's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from uvlm.data.sets.phantom.anatomy import Mask
from uvlm.data.sets.phantom_abdomen.anatomy import ID, KIDNEYS, LIVER, PANCREAS
from uvlm.data.sets.phantom_abdomen.scan import SITES, AbdomenScan, Lesion
from uvlm.text.abnormalities import ABDOMEN_LESIONS

# In the order of a report.
ORGANS: Final[dict[str, tuple[int, ...]]] = {
    "Spleen": (ID["spleen"],),
    "Liver": LIVER,
    "Pancreas": PANCREAS,
    "Kidneys": KIDNEYS,
}
_ORGAN_OF: Final = dict(zip(ABDOMEN_LESIONS, ("Liver", "Kidneys", "Pancreas"), strict=True))
_PLACES: Final = {
    **{number: f"hepatic segment {segment}" for segment, number in enumerate(LIVER, start=1)},
    ID["kidney_right"]: "right kidney",
    ID["kidney_left"]: "left kidney",
    **{ID[f"pancreas_{part}"]: f"pancreatic {part}" for part in ("head", "body", "tail")},
}


@dataclass(frozen=True, eq=False)
class Measured:
    """A scan as its radiologist measures it: voxels with noise, and their size in mm."""

    scan: AbdomenScan
    hu: npt.NDArray[np.int16]
    spacing_mm: tuple[float, float, float]

    def volume_cc(self, mask: Mask) -> float:
        """Return a volume in cubic centimetres."""
        return float(np.count_nonzero(mask) * np.prod(self.spacing_mm) / 1000.0)

    def diameters_cm(self, mask: Mask) -> tuple[float, float]:
        """Return the longer and the shorter edge of a lesion where it is largest."""
        y, x = np.nonzero(mask[self.slice_of(mask)])
        edges = (
            (int(np.ptp(axis)) + 1) * size / 10.0
            for axis, size in zip((y, x), self.spacing_mm[1:], strict=True)
        )
        shorter, longer = sorted(edges)
        return longer, shorter

    def slice_of(self, mask: Mask) -> int:
        """Return the slice where a lesion is largest."""
        return int(mask.sum(axis=(1, 2)).argmax())

    def hu_in(self, mask: Mask) -> str:
        """Write mean and standard deviation of the Hounsfield units."""
        return f"{self.hu[mask].mean():.1f} +/- {self.hu[mask].std():.1f}"


def write_report(measured: Measured) -> str:
    """Write the report of a scan, with line breaks as published."""
    findings = "\n\n".join(
        "\n".join(_about(organ, classes, measured)) for organ, classes in ORGANS.items()
    )
    impression = "\n".join(_impression(measured))
    return f"CT Arterial Phase \n\nFINDINGS: \n{findings}\n\nIMPRESSION: \n{impression}"


def _about(organ: str, classes: tuple[int, ...], measured: Measured) -> Iterator[str]:
    """Describe an organ, and each of its lesions."""
    mask = np.isin(measured.scan.organs, classes)
    yield f"{organ}: "
    yield f"Normal size (volume: {measured.volume_cc(mask):.1f} cc). "
    yield f"Mean HU value: {measured.hu_in(mask)}. "
    for kind in (kind for kind, of in _ORGAN_OF.items() if of == organ):
        found = [lesion for lesion in measured.scan.lesions if lesion.kind == kind]
        if not found:
            yield f"No {kind.lower()} was detected. "
            continue
        yield f"{kind}s: "
        for number, lesion in enumerate(found, start=1):
            yield from _about_lesion(number, lesion, measured)


def _about_lesion(number: int, lesion: Lesion, measured: Measured) -> Iterator[str]:
    longer, shorter = measured.diameters_cm(lesion.mask)
    image = measured.slice_of(lesion.mask) + 1
    volume, density = measured.volume_cc(lesion.mask), measured.hu_in(lesion.mask)
    yield f"{lesion.kind} {number}: "
    yield f"Location: {_PLACES[lesion.inside]}. "
    yield f"Size: {longer:.1f} x {shorter:.1f} cm (image {image}). Volume: {volume:.1f} cc. "
    yield (
        f"Enhancement relative to {_ORGAN_OF[lesion.kind].lower()}: {_look(lesion)} "
        f"(HU value is {density}). "
    )


def _impression(measured: Measured) -> Iterator[str]:
    """Name the largest lesion of each organ."""
    for kind in SITES:
        found = [lesion for lesion in measured.scan.lesions if lesion.kind == kind]
        if found:
            largest = max(found, key=lambda lesion: int(np.count_nonzero(lesion.mask)))
            longer, _ = measured.diameters_cm(largest.mask)
            place = _PLACES[largest.inside]
            yield f"{_look(largest)} {kind.lower()} of {longer:.1f} cm, {place}. "
    if not measured.scan.lesions:
        yield "No lesion was detected in liver, pancreas and kidneys. "


def _look(lesion: Lesion) -> str:
    return "Hypoattenuating" if lesion.is_dark else "Hyperattenuating"


def lesion_counts(lesions: Sequence[Lesion]) -> dict[str, int]:
    """Count the lesions of each kind."""
    return {kind: sum(lesion.kind == kind for lesion in lesions) for kind in ABDOMEN_LESIONS}
