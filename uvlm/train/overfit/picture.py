"""Three planes of a CT with the outlines of its true and its predicted classes.

Planes are shown as radiologists view them: the patient's right on the left, the head on top.

(D, H, W) = (z, y, x), x to Left, y to Posterior, z to Superior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Ids

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GREYS: Final = {"cmap": "gray", "vmin": -160, "vmax": 240, "interpolation": "bilinear"}  # HU
_PLANES: Final = ("axial", "coronal", "sagittal")
_ROWS: Final = ("true", "predicted")


def draw_planes(
    path: Path,
    hu: npt.NDArray[np.int16],
    spacing: tuple[float, float, float],
    label_maps: tuple[Ids, Ids],
    dice: Mapping[str, float],
) -> None:
    """Draw a PNG: one column per plane, the true outlines above the predicted ones.

    Args:
        path: the PNG.
        hu: Hounsfield units (D, H, W).
        spacing: millimetres along z, y, x.
        label_maps: true and predicted class ids (D, H, W).
        dice: by class name, in the order of the ids that are present.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    truth = label_maps[0]
    present = [int(c) for c in np.unique(truth) if c]
    order = [*range(0, 20, 2), *range(1, 20, 2)]  # strong colours first, then their pale twins
    colours = dict(zip(present, colormaps["tab20"](order), strict=False))
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(_ROWS), len(_PLANES))
    for column, (plane, index) in enumerate(zip(_PLANES, busiest_slices(truth), strict=True)):
        image = np.moveaxis(hu, column, 0)[index]
        height, width = (edge for axis, edge in enumerate(spacing) if axis != column)
        for row, (name, labels) in enumerate(zip(_ROWS, label_maps, strict=True)):
            ax = axes[row, column]
            # Rows run to Posterior in an axial plane, to Superior in the others.
            origin = "lower" if column else "upper"
            ax.imshow(image, aspect=height / width, origin=origin, **_GREYS)
            _outline(ax, np.moveaxis(labels, column, 0)[index], colours)
            ax.set_title(f"{plane}, {name}")
            ax.set_axis_off()
    handles = [Line2D([], [], color=colour, label="") for colour in colours.values()]
    names = [f"{name}  {score:.2f}" for name, score in dice.items()]
    figure.legend(handles, names, loc="outside right center", title="Dice", frameon=False)
    canvas.print_figure(path, dpi=110, metadata={"Software": None})


def busiest_slices(truth: Ids) -> Sequence[int]:
    """Find the slices along z, y and x that show the most classes; of equals the middle one."""
    chosen = []
    for axis in range(3):
        slices = np.moveaxis(truth, axis, 0)
        counts = np.array([len(np.unique(part)) for part in slices])
        best = np.flatnonzero(counts == counts.max())
        chosen.append(int(best[len(best) // 2]))
    return chosen


def _outline(ax: Axes, labels: Ids, colours: Mapping[int, Any]) -> None:
    """Draw the outline of every class in the slice."""
    for class_id, colour in colours.items():
        mask = labels == class_id
        if mask.any() and not mask.all():
            ax.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=1.2)
