"""What the network sees of a CT: the middle axial, coronal and sagittal plane of its grid.

Planes are oriented as radiologists view them: anterior or superior at the top, the patient's right
on the left. Every grid voxel is drawn as a square, so that a stretched CT looks stretched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from uvlm.arrays import Array, Voxels
from uvlm.config import PreprocessConfig
from uvlm.data.ct.check import CtCheck, check_ct
from uvlm.errors import ConfigError
from uvlm.files import write_bytes_atomic
from uvlm.pages.html import new_figure, png_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CTS: Final = 20
NAMES: Final = ("axial", "coronal", "sagittal")
# Letters at the left, right, top and bottom edges of each plane.
EDGES: Final = (("R", "L", "A", "P"), ("R", "L", "S", "I"), ("A", "P", "S", "I"))
_INCHES: Final = 3.0
_PLACES: Final = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.98), (0.5, 0.02))
_SIDES: Final = (("left", "center"), ("right", "center"), ("center", "top"), ("center", "bottom"))


@dataclass(frozen=True, eq=False)
class Planes:
    """Three planes through the middle of one CT, as normalised values."""

    name: str
    images: tuple[Voxels, ...]
    sizes_mm: tuple[tuple[float, float], ...]  # of a voxel, down and across

    @classmethod
    def of(cls, name: str, voxels: Voxels, spacing: Sequence[float]) -> Self:
        """Cut (z, y, x) in LPS through the middle; copies, so that the volume can be freed."""
        images = cut_planes(voxels, [length // 2 for length in voxels.shape])
        return cls(name, tuple(image.copy() for image in images), voxel_sizes(spacing))


def cut_planes(array: Array, centre: Sequence[int]) -> tuple[Array, Array, Array]:
    """Cut (z, y, x) in LPS three times through a voxel; z runs upwards in the last two planes."""
    z, y, x = centre
    return array[z], array[::-1, y], array[::-1, :, x]


def voxel_sizes(spacing: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Return the height and width in mm of a voxel in each of the three planes."""
    z, y, x = spacing
    return (y, x), (z, x), (z, y)


def check_cts(
    paths: Sequence[Path], config: PreprocessConfig | None, picture: Path | None = None
) -> Iterator[CtCheck]:
    """Check CTs one by one; after the last, draw those that were accepted.

    Raises:
        ConfigError: the picture cannot be drawn; raised before any CT is read.
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
    """Draw one row per CT; the file appears whole or not at all."""
    figure = new_figure(3 * _INCHES, (_INCHES + 0.35) * len(shown))
    panels = figure.subplots(len(shown), len(NAMES), squeeze=False)
    for row, planes in zip(panels, shown, strict=True):
        for number, axes in enumerate(row):
            image = planes.images[number]
            lowest = min(-1.0, float(image.min()))  # z-scores are unbounded
            axes.imshow(image, cmap="gray", vmin=lowest, vmax=1.0, interpolation="nearest")
            axes.set_title(_title(planes, number), fontsize=8)
            axes.set_axis_off()
            letter_edges(axes, EDGES[number])
    write_bytes_atomic(path, png_of(figure, 120))


def _check_picture(path: Path, num_cts: int, config: PreprocessConfig | None) -> None:
    if path.suffix.lower() != ".png":
        raise ConfigError(path, "is not a .png file", "name it FILE.png")
    if not path.parent.is_dir():
        raise ConfigError(path, "is in a folder that does not exist", "make the folder first")
    if num_cts > MOST_CTS:
        fact = f"would show {num_cts} CTs, more than {MOST_CTS}"
        raise ConfigError(path, fact, "draw fewer at a time")
    if config is None:
        remedy = "pass --model, or run this beside a params.yaml"
        raise ConfigError(path, "cannot be drawn without knowing how CTs are prepared", remedy)


def _title(planes: Planes, number: int) -> str:
    """Write the size above every plane, and the CT's name above the first."""
    (down, across), (mm_down, mm_across) = planes.images[number].shape, planes.sizes_mm[number]
    text = f"{NAMES[number]}, {down} x {across} voxels of {mm_down:.3g} x {mm_across:.3g} mm"
    return f"{planes.name[:56] if number == 0 else ''}\n{text}"


def letter_edges(axes: Axes, letters: Sequence[str]) -> None:
    """Write the patient's sides at the edges, readable on black and on white."""
    style: dict[str, Any] = {"color": "#f0a030", "fontsize": 8, "transform": axes.transAxes}
    box = {"facecolor": "black", "alpha": 0.5, "edgecolor": "none", "pad": 1}
    for letter, (x, y), (ha, va) in zip(letters, _PLACES, _SIDES, strict=True):
        axes.text(x, y, letter, ha=ha, va=va, bbox=box, **style)
