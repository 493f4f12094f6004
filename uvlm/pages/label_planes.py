"""A CT in three planes with the outlines of its labels; what is in question is drawn boldly.

Planes run where most of the structures in question lie, else through the middle. Rows run up the
page as radiologists look, the patient's right on the left; a millimetre is as long down as across.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Ids
from uvlm.data.label_scheme import IGNORE_ID
from uvlm.pages.ct_planes import EDGES, NAMES, cut_planes, letter_edges, voxel_sizes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WINDOW_HU: Final = (-1000, 400)
_INCHES: Final = 3.1
_COLOURS: Final = (
    "#ff3b30", "#ffcc00", "#34c759", "#00c7ff", "#ff9500", "#bf5af2", "#a8e05f", "#ff2d92",
    "#00e5c3", "#5e9bff", "#ff7b54", "#d4ff3a", "#e08cff", "#3ddc97", "#ffa3d1", "#7dd3fc",
    "#f4a261", "#c0ca33", "#8c9eff", "#ff8a80",
)  # fmt: skip
_IGNORED_COLOUR: Final = "#9ca3af"
_WIDTHS: Final = (1.1, 2.6)  # of other and of marked classes


@dataclass(frozen=True, eq=False)
class Outlined:
    """A CT and its labels on one grid (z, y, x), and the classes in question."""

    hu: npt.NDArray[Any]
    ids: Ids
    spacing: Sequence[float]
    names: Sequence[str]
    marked: Collection[int] = ()

    def centre(self) -> tuple[int, int, int]:
        """Choose where the planes cross: along each axis where most marked voxels lie."""
        marked = np.isin(self.ids, sorted(self.marked))
        if not marked.any():
            z, y, x = (length // 2 for length in self.ids.shape)
            return z, y, x
        z, y, x = (int(marked.sum(axis=tuple({0, 1, 2} - {a})).argmax()) for a in range(3))
        return z, y, x


def draw_outlines(shown: Outlined) -> bytes:
    """Draw the three planes; returns a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    planes = _planes(shown)
    present = sorted({int(i) for _, ids, _ in planes for i in np.unique(ids)} - {0})
    heights = [ids.shape[0] * down / (ids.shape[1] * across) for _, ids, (down, across) in planes]
    figure = Figure(
        figsize=(3 * _INCHES, _INCHES * max(heights) + 0.5 + 0.17 * (len(present) // 6)),
        layout="constrained",
    )
    panels = figure.subplots(1, 3)
    for number, (axes, (image, ids, (down, across))) in enumerate(zip(panels, planes, strict=True)):
        low, high = WINDOW_HU
        axes.imshow(image, cmap="gray", vmin=low, vmax=high, aspect=down / across)
        axes.set_title(NAMES[number], fontsize=8)
        axes.set_axis_off()
        outline(axes, ids, shown.marked, _colour, _WIDTHS)
        letter_edges(axes, EDGES[number])
    handles = [
        Line2D([], [], color=_colour(i), lw=_WIDTHS[i in shown.marked], label=_name(i, shown))
        for i in sorted(present, key=lambda i: (i not in shown.marked, i))
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=7.5,
                      frameon=False)  # fmt: skip
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, facecolor="white", format="png", metadata={"Software": None})
    return buffer.getvalue()


def _planes(shown: Outlined) -> list[tuple[Any, Ids, tuple[float, float]]]:
    """Cut image and ids, each plane with the height and width of its voxels."""
    hu, ids = (cut_planes(array, shown.centre()) for array in (shown.hu, shown.ids))
    return [*zip(hu, ids, voxel_sizes(shown.spacing), strict=True)]


def outline(
    axes: Axes,
    ids: Ids,
    marked: Collection[int],
    colour: Callable[[int], str],
    widths: tuple[float, float],
) -> None:
    """Draw every class of (H, W) in its colour; the marked ones last and in the second width."""
    rows, columns = np.arange(-1, ids.shape[0] + 1), np.arange(-1, ids.shape[1] + 1)
    for number in sorted((int(i) for i in np.unique(ids) if i), key=lambda i: (i in marked, i)):
        mask = np.pad(ids == number, 1).astype(np.float32)
        width = widths[number in marked]
        axes.contour(columns, rows, mask, levels=[0.5], colors=colour(number), linewidths=width)


def _colour(number: int) -> str:
    return _IGNORED_COLOUR if number == IGNORE_ID else _COLOURS[number % len(_COLOURS)]


def _name(number: int, shown: Outlined) -> str:
    return "ignored" if number == IGNORE_ID else shown.names[number].replace("_", " ")
