"""A CT in three planes with the outlines of its labels; structures in question are drawn boldly.

The planes run where most of the structures in question are, else through the middle. They are
oriented as radiologists view them, the patient's right on the left; a millimetre is equally long
down and across.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from uvlm.arrays import Array, Ids
from uvlm.data.label_scheme import IGNORE_ID
from uvlm.pages.ct_planes import EDGES, NAMES, cut_planes, letter_edges, voxel_sizes
from uvlm.pages.html import new_figure, png_of

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

    hu: Array
    ids: Ids
    spacing: Sequence[float]
    names: Sequence[str]
    marked: Collection[int] = ()

    def centre(self) -> tuple[int, int, int]:
        """Choose where the planes cross: on each axis where most marked voxels are."""
        marked = np.isin(self.ids, sorted(self.marked))
        if not marked.any():
            z, y, x = (length // 2 for length in self.ids.shape)
            return z, y, x
        z, y, x = (int(marked.sum(axis=tuple({0, 1, 2} - {a})).argmax()) for a in range(3))
        return z, y, x


def draw_outlines(shown: Outlined) -> bytes:
    """Draw the three planes; returns a PNG."""
    from matplotlib.lines import Line2D

    hu, labels = (cut_planes(array, shown.centre()) for array in (shown.hu, shown.ids))
    planes = [*zip(hu, labels, voxel_sizes(shown.spacing), strict=True)]
    present = sorted({int(i) for ids in labels for i in np.unique(ids)} - {0})
    heights = [ids.shape[0] * down / (ids.shape[1] * across) for _, ids, (down, across) in planes]
    # The legend below the panels has six names to a row.
    height = _INCHES * max(heights) + 0.5 + 0.17 * (len(present) // 6)
    figure = new_figure(3 * _INCHES, height)
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
    return png_of(figure, 110)


def outline(
    axes: Axes,
    ids: Ids,
    marked: Collection[int],
    colour: Callable[[int], str],
    widths: tuple[float, float],
) -> None:
    """Draw every class of (H, W) in its colour; marked ones last and in the second width."""
    # A border of background closes the outlines of structures that reach the edge.
    rows, columns = np.arange(-1, ids.shape[0] + 1), np.arange(-1, ids.shape[1] + 1)
    for number in sorted((int(i) for i in np.unique(ids) if i), key=lambda i: (i in marked, i)):
        mask = np.pad(ids == number, 1).astype(np.float32)
        width = widths[number in marked]
        axes.contour(columns, rows, mask, levels=[0.5], colors=colour(number), linewidths=width)


def _colour(number: int) -> str:
    return _IGNORED_COLOUR if number == IGNORE_ID else _COLOURS[number % len(_COLOURS)]


def _name(number: int, shown: Outlined) -> str:
    return "ignored" if number == IGNORE_ID else shown.names[number].replace("_", " ")
