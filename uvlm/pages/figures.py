"""Figures of the summary page, drawn by matplotlib without a display.

(H, W) = (y, x) of one axial slice.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from uvlm.data.label_scheme import LabelScheme
from uvlm.pages.html import new_figure, png_of
from uvlm.pages.label_planes import WINDOW_HU, outline
from uvlm.pages.slices import MaskedSlice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Mapping[str, list[tuple[float, float]]]  # (step, value) by column
BLUE, ORANGE, GREY, INK = "#1d4ed8", "#d97706", "#9ca3af", "#1f2937"
_LINES: Final = (BLUE, ORANGE, "#0f766e", "#a21caf", "#4d7c0f", "#b91c1c")
_LESION_COLOURS: Final = (
    "#ff5a5f", "#ffd166", "#06d6a0", "#4cc9f0", "#f78c6b", "#c77dff", "#90e0ef",
    "#ff99c8", "#b5e48c", "#ffb703", "#80ffdb", "#e0aaff", "#fb6f92", "#a0c4ff",
)  # fmt: skip
_ANATOMY_COLOUR: Final = "#9db4c8"
STYLE: Final[Any] = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.edgecolor": "#d1d5db",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": "#6b7280",
    "ytick.color": "#6b7280",
    "grid.color": "#eceff3",
    "legend.frameon": False,
}


def draw_figures(
    histories: Mapping[str, History],
    rows: Sequence[Mapping[str, Any]],
    calibration: Mapping[str, Any],
    masked: MaskedSlice | None,
    classes: LabelScheme,
) -> dict[str, bytes]:
    """Draw every figure in our style, as a PNG by name; matplotlib's defaults stay as they are.

    Where there are no masks or no probabilities, the picture says so, as DVC expects each of them.
    """
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        figures = {
            "training_curves": _training_curves(histories),
            "f1_by_abnormality": _f1_bars(rows),
            "reliability": _reliability(calibration),
            "slice": _slice_masks(masked, classes) if masked else _nothing("masks"),
        }
    return {name: png_of(figure, 160) for name, figure in figures.items()}


def read_history(path: Path) -> History:
    """Read the columns of a history.csv as (step, value) pairs without empty cells."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name != "step"]
    return {
        name: [(float(row["step"]), float(row[name])) for row in rows if row[name]]
        for name in names
    }


def _training_curves(histories: Mapping[str, History]) -> Figure:
    """Draw one column per training: losses above, validation scores below."""
    figure = new_figure(9.6, 4.6)
    axes = figure.subplots(2, max(len(histories), 1), squeeze=False)
    for column, (stage, history) in enumerate(histories.items()):
        losses = {name: points for name, points in history.items() if name.endswith("loss")}
        scores = {n: points for n, points in history.items() if "val_" in n and n not in losses}
        if not any(history.values()):
            axes[0, column].text(0.5, 0.5, "no steps", transform=axes[0, column].transAxes)
        _draw_lines(axes[0, column], losses, marker="")
        _draw_lines(axes[1, column], scores, marker="o")
        axes[0, column].set_title(stage)
        axes[1, column].set_ylim(0, 1)
        axes[1, column].set_xlabel("step")
    axes[0, 0].set_ylabel("training loss")
    axes[1, 0].set_ylabel("validation score")
    return figure


def _f1_bars(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the F1 of every abnormality in the reports and by the classifier, best report first."""
    ordered = sorted(rows, key=_place_of_bar)
    figure = new_figure(9.6, 0.9 + 0.34 * len(ordered))
    axes = figure.subplots()
    places = np.arange(len(ordered))
    classifier = [row.get("cls_f1_tuned") or 0.0 for row in ordered]
    report = [row["report_f1"] for row in ordered]
    axes.barh(places + 0.19, classifier, 0.36, color=GREY, label="classifier, tuned threshold")
    axes.barh(places - 0.19, report, 0.36, color=BLUE, label="generated report")
    for place, row in zip(places, ordered, strict=True):
        said = f"{row['report_f1']:.2f}" if row["support"] else "no positive scan"
        axes.text(row["report_f1"] + 0.008, place - 0.19, said, va="center")
    names = [
        f"{row['name']}{' ✕' * bool(row['not_learned'])}  (n={row['support']})" for row in ordered
    ]
    axes.set_yticks(places, names, color=INK)
    axes.set_xlim(0, 1.06)
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.set_xlabel("F1 on the test split   (n positive scans, ✕ not learned)")
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def _place_of_bar(row: Mapping[str, Any]) -> tuple[bool, float, float]:
    """Sort what is not judged first, which is the bottom, then the worst."""
    return row["support"] > 0, row["report_f1"], row.get("cls_f1_tuned") or 0.0


def _reliability(calibration: Mapping[str, Any]) -> Figure:
    """Draw the share of positives over the mean probability of each bin, and the bins' counts."""
    if not calibration:
        return _nothing("probabilities")
    figure = new_figure(9.6, 4.2)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", label="calibrated")
    temperature = calibration["temperature"]
    drawn = [("as they are", "bins", BLUE, "o")]
    if temperature is not None:
        drawn += [(f"at temperature {temperature:.3g}", "bins_tempered", ORANGE, "s")]
    edges = np.arange(len(calibration["bins"]["n"]))
    for place, (label, key, colour, marker) in enumerate(drawn):
        bins = calibration[key]
        points = zip(bins["mean_probability"], bins["positive_share"], strict=True)
        x, y = zip(*(point for point in points if point[0] is not None), strict=True)
        left.plot(x, y, color=colour, lw=1.5, marker=marker, ms=4, label=label, clip_on=False)
        right.bar((edges + 0.3 + 0.4 * place) / len(edges), bins["n"], 0.036, color=colour)
    left.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean probability of a bin", title="Reliability")
    left.set_ylabel("share of positives")
    right.set(xlim=(0, 1), yscale="log", xlabel="probability", title="How many in each bin")
    right.set_ylabel("pairs of scan and abnormality")
    left.grid(visible=True)
    left.legend(loc="upper left")
    return figure


def _nothing(what: str) -> Figure:
    """Say in place of a picture that there is nothing to show."""
    figure = new_figure(9.6, 0.6)
    figure.text(0.5, 0.5, f"no {what} to show", ha="center", va="center", color=INK)
    return figure


def _slice_masks(masked: MaskedSlice, classes: LabelScheme) -> Figure:
    """Draw the CT alone, with true and with predicted outlines; lesions in colour."""
    from matplotlib.lines import Line2D

    def colour(number: int) -> str:
        if number not in classes.lesion_ids:
            return _ANATOMY_COLOUR
        place = sorted(classes.lesion_ids).index(number)
        return _LESION_COLOURS[place % len(_LESION_COLOURS)]

    figure = new_figure(9.6, 3.9)
    panels = figure.subplots(1, 3)
    low, high = WINDOW_HU
    shown = (("CT", None), ("reference", masked.true), ("predicted", masked.predicted))
    for axes, (title, ids) in zip(panels, shown, strict=True):
        axes.imshow(masked.image, cmap="gray", vmin=low, vmax=high, interpolation="bilinear")
        axes.set_title(title)
        axes.set_axis_off()
        if ids is not None:
            outline(axes, ids, classes.lesion_ids, colour, (0.7, 2.0))
            # Outlines reach one pixel over the image.
            axes.set_xlim(-0.5, ids.shape[1] - 0.5)
            axes.set_ylim(ids.shape[0] - 0.5, -0.5)
    for x, letter in ((0.03, "R"), (0.97, "L")):
        panels[0].text(x, 0.5, letter, transform=panels[0].transAxes, color="white", ha="center")
    handles = [Line2D([], [], color=_ANATOMY_COLOUR, lw=1, label="anatomy")]
    handles += [
        Line2D([], [], color=colour(n), lw=2.5, label=classes.names[n].replace("_", " "))
        for n in np.union1d(masked.true, masked.predicted)
        if n in classes.lesion_ids
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5))
    return figure


def _draw_lines(axes: Axes, lines: History, marker: str) -> None:
    for colour, (name, points) in zip(_LINES * 3, sorted(lines.items()), strict=False):
        if points:
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, color=colour, lw=1.5, marker=marker, ms=3, label=name)
    axes.grid(visible=True)
    if lines:
        axes.legend(fontsize=7.5)
