"""One plot per ablation: how much each comparison gains, ours with interval beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.tables.effects import METRICS
from uvlm.pages.figures import BLUE, GREY, INK, STYLE
from uvlm.pages.html import new_figure, png_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_effects(document: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw every ablation of a table's document as a PNG, by name."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        return {effect["name"]: _draw(effect, document) for effect in document["effects"]}


def _draw(effect: Mapping[str, Any], document: Mapping[str, Any]) -> bytes:
    names = {row["row"]: row["name"] for row in document["rows"]}
    pairs = effect["pairs"][::-1]  # the first one on top
    labels = [_label(pair, names) for pair in pairs]
    metrics = list(pairs[0]["metrics"])
    figure = new_figure(4.2 + 3.4 * len(metrics), 1.6 + 0.5 * len(pairs))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        _draw_metric(axes, [pair["metrics"][metric] for pair in pairs])
        axes.set_xlabel(f"difference in {METRICS[metric]}")
    panels[0].set_yticks(range(len(pairs)), labels, color=INK)
    handles, texts = panels[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower left", ncols=2)
    return png_of(figure, 160)


def draw_replication(panels: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]]) -> bytes:
    """Draw labelled comparisons, each with `paper` and `ours`, in a panel for each profile."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        most = max(len(rows) for rows in panels.values())
        figure = new_figure(3.4 + 3.6 * len(panels), 1.4 + 0.36 * most)
        every = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (profile, rows) in zip(every, panels.items(), strict=True):
            _draw_metric(axes, [values for _, values in rows[::-1]])
            axes.set_yticks(range(len(rows)), [label for label, _ in rows[::-1]], color=INK)
            axes.set_title(profile, loc="left")
            axes.set_xlabel("difference")
        handles = {
            t: h for axes in every for h, t in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=3)
        return png_of(figure, 160)


def _label(pair: Mapping[str, Any], names: Mapping[Any, str]) -> str:
    """Name both rows of a table of the paper; what the difference shows, in a group of arms."""
    first, second = pair["rows"]
    if not isinstance(first, int):
        return str(pair["label"])
    return f"{first} {names[first]}\nminus {second} {names[second]}"


def _draw_metric(axes: Axes, effects: list[Mapping[str, Any]]) -> None:
    """Draw the paper's differences as open diamonds and ours as points with their intervals."""
    axes.axvline(0, color=GREY, linewidth=1)
    papers = [(place, e["paper"]) for place, e in enumerate(effects) if e["paper"] is not None]
    if papers:
        axes.plot(
            [paper for _, paper in papers], [place for place, _ in papers],
            linestyle="", marker="D", markerfacecolor="none", markeredgecolor=INK,
            label="the paper's, published",
        )  # fmt: skip
    ours = [(place, e["ours"]) for place, e in enumerate(effects) if e["ours"] is not None]
    for place, found in ours:
        low, high = found["interval"] or (found["mean"], found["mean"])
        axes.plot([low, high], [place + 0.18] * 2, color=BLUE, linewidth=2)
    if ours:
        axes.plot(
            [found["mean"] for _, found in ours], [place + 0.18 for place, _ in ours],
            linestyle="", marker="o", color=BLUE, label="ours, 95 % interval",
        )  # fmt: skip
    else:
        axes.text(0.98, 0.02, "ours: not run", transform=axes.transAxes, ha="right", color=INK)
    axes.set_ylim(-0.6, len(effects) - 0.4)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
