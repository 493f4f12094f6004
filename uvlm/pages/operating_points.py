"""Precision and recall of validation reports at several shifts of the cues: table and picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from uvlm.pages.figures import BLUE, GREY, STYLE
from uvlm.pages.html import new_figure, png_of
from uvlm.pages.tables import Number, number_at

COLUMNS: Final = (
    ("macro_precision", "Macro-precision"),
    ("macro_recall", "Macro-recall"),
    ("macro_f1", "Macro-F1"),
)
_LINES_OF_F1: Final = (0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class PointRow:
    """One shift of the cues, and the numbers of COLUMNS."""

    shift: str
    numbers: tuple[Number, ...]


def point_rows(found: Mapping[str, Any]) -> list[PointRow]:
    """Make a row for each shift."""
    return [
        PointRow(_signed(point["shift"]), tuple(number_at(point, key) for key, _ in COLUMNS))
        for point in found["points"]
    ]


def _signed(shift: float) -> str:
    return f"{shift:+g}" if shift else "0"


def draw_points(points: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw precision over recall, a dot for each shift, between lines of equal F1: a PNG."""
    import matplotlib as mpl
    import numpy as np

    with mpl.rc_context(STYLE):
        figure = new_figure(5.2, 4.2)
        axes = figure.subplots()
        for f1 in _LINES_OF_F1:  # of one class: a mean over classes may lie on either side
            recall = np.linspace(f1 / (2 - f1), 1, 100)
            axes.plot(recall, f1 * recall / (2 * recall - f1), color=GREY, lw=0.6, ls=":")
            axes.text(
                0.995, f1 / (2 - f1), f"F1 {f1:g}", color=GREY, ha="right", va="bottom", size=7
            )
        x = [point["macro_recall"] for point in points]
        y = [point["macro_precision"] for point in points]
        axes.plot(x, y, color=BLUE, lw=1.5, marker="o", ms=5, clip_on=False)
        for point in points:
            place = point["macro_recall"], point["macro_precision"]
            axes.annotate(_signed(point["shift"]), place, (4, 6), textcoords="offset points")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="macro-recall", ylabel="macro-precision")
        axes.set_title("Shift of the cues, validation")
        axes.grid(visible=True)
        return png_of(figure, 160)
