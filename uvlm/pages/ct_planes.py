"""What the network sees of a CT: the middle axial, coronal and sagittal plane of its grid.

Rows run up the page as radiologists look: anterior or superior on top, the patient's right on the
left. Every grid voxel is a square, so that a stretched CT looks stretched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import numpy.typing as npt

from uvlm.config import PreprocessConfig
from uvlm.data.ct.check import CtCheck, check_ct
from uvlm.errors import ConfigError
from uvlm.files import filling_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CTS: Final = 20
NAMES: Final = ("axial", "coronal", "sagittal")
# Letters at the left, right, top and bottom edge of each plane.
EDGES: Final = (("R", "L", "A", "P"), ("R", "L", "S", "I"), ("A", "P", "S", "I"))
_INCHES: Final = 3.0
_PLACES: Final = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.98), (0.5, 0.02))
_SIDES: Final = (("left", "center"), ("right", "center"), ("center", "top"), ("center", "bottom"))


@dataclass(frozen=True, eq=False)
class Planes:
    """Three planes through the middle of one CT, as normalised values."""

    name: str
    images: tuple[npt.NDArray[np.float32], ...]
    sizes_mm: tuple[tuple[float, float], ...]  # of a voxel, down and across

    @classmethod
    def of(cls, name: str, voxels: npt.NDArray[np.float32], spacing: Sequence[float]) -> Self:
        """Cut (z, y, x) in LPS in the middle."""
        images = cut_planes(voxels, [length // 2 for length in voxels.shape])
        return cls(name, tuple(image.copy() for image in images), voxel_sizes(spacing))


def cut_planes(
    array: npt.NDArray[Any], centre: Sequence[int]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Cut (z, y, x) in LPS three times through a voxel; z runs up in the last two planes."""
    z, y, x = centre
    return array[z], array[::-1, y], array[::-1, :, x]


def voxel_sizes(spacing: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Give the height and width of a voxel in each of the three planes, in mm."""
    z, y, x = spacing
    return (y, x), (z, x), (z, y)


def check_cts(
    paths: Sequence[Path], config: PreprocessConfig | None, picture: Path | None = None
) -> Iterator[CtCheck]:
    """Check CTs one by one; after the last, draw those that were accepted.

    Raises:
        ConfigError: the picture cannot be drawn; said before any CT is read.
    """
    if picture is not None:
        _check_picture(picture, len(paths), config)
    shown = []
    for path in paths:
        check = check_ct(path, config)
        yield check
        if picture is not None and check.voxels is not None:
            shown.append(Planes.of(path.name, check.voxels, check.spacing_seen))
    if picture is not None and shown:
        draw_planes(shown, picture)


def draw_planes(shown: Sequence[Planes], path: Path) -> None:
    """Draw a row for every CT; the file appears whole or not at all."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * _INCHES, (_INCHES + 0.35) * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), len(NAMES), squeeze=False)
    for row, planes in zip(panels, shown, strict=True):
        for number, axes in enumerate(row):
            image = planes.images[number]
            lowest = min(-1.0, float(image.min()))  # a z-score has no bounds
            axes.imshow(image, cmap="gray", vmin=lowest, vmax=1.0, interpolation="nearest")
            axes.set_title(_title(planes, number), fontsize=8)
            axes.set_axis_off()
            letter_edges(axes, EDGES[number])
    with filling_file(path) as file:
        figure.savefig(file, dpi=120, facecolor="white", format="png", metadata={"Software": None})


def _check_picture(path: Path, num_cts: int, config: PreprocessConfig | None) -> None:
    if path.suffix.lower() != ".png":
        raise ConfigError(path, "is not a .png file", "name it FILE.png")
    if not path.parent.is_dir():
        raise ConfigError(path, "lies in no folder that exists", "make the folder first")
    if num_cts > MOST_CTS:
        fact = f"would show {num_cts} CTs, more than {MOST_CTS}"
        raise ConfigError(path, fact, "draw fewer at a time")
    if config is None:
        fact = "needs to know how CTs are prepared"
        raise ConfigError(path, fact, "give --model, or run this where params.yaml is")


def _title(planes: Planes, number: int) -> str:
    """Name the CT above its first plane, and the size of every plane."""
    (down, across), (mm_down, mm_across) = planes.images[number].shape, planes.sizes_mm[number]
    text = f"{NAMES[number]}, {down} x {across} voxels of {mm_down:.3g} x {mm_across:.3g} mm"
    return f"{planes.name[:56] if number == 0 else ''}\n{text}"


def letter_edges(axes: Axes, letters: Sequence[str]) -> None:
    """Write the sides of the patient at the edges, readable on black and on white."""
    style: dict[str, Any] = {"color": "#f0a030", "fontsize": 8, "transform": axes.transAxes}
    box = {"facecolor": "black", "alpha": 0.5, "edgecolor": "none", "pad": 1}
    for letter, (x, y), (ha, va) in zip(letters, _PLACES, _SIDES, strict=True):
        axes.text(x, y, letter, ha=ha, va=va, bbox=box, **style)
