"""The summary of a run: one Markdown file and one HTML page that needs nothing but itself.

<out>/summary.md      numbers and reports for the terminal and the repository's web page
<out>/summary.html    the same with figures inside; opens offline, prints on A4
<out>/figures/*.png   training_curves, f1_by_abnormality, slice
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uvlm.config import Params
from uvlm.data.cases import Case, read_index, scored_cases
from uvlm.data.label_scheme import scheme
from uvlm.errors import DataError
from uvlm.files import write_text_atomic
from uvlm.pages import mask_tables, tables
from uvlm.pages.examples import choose_examples
from uvlm.pages.figures import f1_bars, read_history, save_figure, slice_masks, training_curves
from uvlm.pages.highlight import Piece, Spans, colour_of
from uvlm.pages.html import png_url, render
from uvlm.pages.slices import choose_slice
from uvlm.store import read_quarantine
from uvlm.text.predictions import load_predictions

DISCLAIMER = (
    "Unreviewed research draft. Every report, probability and mask here was made by a program and "
    "read by nobody. Research use only, not a medical device."
)
PHANTOM_NOTE = (
    "All CTs of this run are synthetic phantoms; no number here says anything about patients."
)

_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # as str.splitlines sees them


@dataclass(frozen=True)
class StageCost:
    """What one pipeline stage took; `peak_mb` is the growth of its resident memory."""

    stage: str
    seconds: float
    peak_mb: float | None = None


@dataclass(frozen=True)
class SummaryInputs:
    """Everything the page is made of.

    Args:
        index: manifest of the stage `index`.
        preprocess: manifest of the stage `preprocess`, for the image of the slice.
        label_maps: manifest of the reference label maps.
        generated_masks: manifest of the predicted label maps.
        predictions: predictions JSONL.
        metrics: reports/metrics.json.
        per_class: reports/per_class.json.
        quarantine: folder of quarantine files, one a stage.
        histories: history.csv of each training, in order.
        spans: marks the phrases of a report that state an abnormality.
        costs: seconds and memory of each stage, in order.
        facts: versions, hashes and the like, shown as they are.
        accounts: JSON files that say in `accounts` where the rows of each table went.
    """

    index: Path
    preprocess: Path
    label_maps: Path
    generated_masks: Path
    predictions: Path
    metrics: Path
    per_class: Path
    quarantine: Path
    histories: Mapping[str, Path]
    spans: Spans
    costs: Sequence[StageCost] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    accounts: Sequence[Path] = ()


def build_summary(params: Params, inputs: SummaryInputs, out: Path) -> None:
    """Draw the figures and write summary.md and summary.html below `out`."""
    cases = read_index(inputs.index)
    test = scored_cases(cases)
    metrics, per_class = _read_json(inputs.metrics), _read_json(inputs.per_class)
    classes = scheme(params.label_maps.dataset, params.label_maps.scheme)
    masked = choose_slice(
        [case.case_id for case in test],
        classes,
        inputs.preprocess,
        inputs.label_maps,
        inputs.generated_masks,
    )
    histories = {stage: read_history(path) for stage, path in inputs.histories.items()}
    figures = {
        "training_curves": training_curves(histories),
        "f1_by_abnormality": f1_bars(per_class["abnormalities"]),
        "slice": slice_masks(masked, classes),
    }
    paths = {name: out / "figures" / f"{name}.png" for name in figures}
    for name, figure in figures.items():
        save_figure(figure, paths[name])
    reports = {p.case_id: p.report for p in load_predictions(inputs.predictions)}
    examples = choose_examples(test, reports, inputs.spans, params.summarize.num_examples)
    page = _page(params, inputs, cases, metrics, per_class)
    pictures = {name: png_url(path.read_bytes()) for name, path in paths.items()}
    page |= {"examples": examples, "slice": masked, "figures": pictures}
    for name in ("summary.html", "summary.md"):
        text = render(
            f"{name}.j2", page, colour=colour_of, md=_markdown, md_pieces=_markdown_pieces
        )
        write_text_atomic(out / name, text)


def _page(
    params: Params,
    inputs: SummaryInputs,
    cases: Sequence[Case],
    metrics: dict[str, Any],
    per_class: dict[str, Any],
) -> dict[str, Any]:
    """Gather what the templates show, apart from pictures and examples."""
    rows = per_class["abnormalities"]
    for number, row in enumerate(rows):
        row["positives"] = tables.positives_by_split(cases, number)
        row["numbers"] = tables.class_numbers(row)
    return {
        "profile": params.profile,
        "disclaimer": DISCLAIMER,
        "note": PHANTOM_NOTE if params.download.source == "phantom" else "",
        "metrics": metrics,
        "headlines": tables.headlines(metrics, dict(params.summarize.goals)),
        "score_tables": tables.score_tables(metrics),
        "bleu": tables.bleu_table(metrics),
        "meteor": tables.meteor_line(metrics["report"]),
        "classifier": tables.classifier_numbers(metrics),
        "collapse": tables.collapse_rows(metrics["collapse"]),
        "class_columns": [label for _, label in tables.CLASS_COLUMNS],
        "abnormalities": sorted(rows, key=lambda row: (-row["report_f1"], row["name"])),
        "legend": [row["name"] for row in rows],
        "not_learned": [row for row in rows if row["not_learned"]],
        "detection": mask_tables.detection_rows(metrics["seg"]["detection"]),
        "structures": {
            kind: mask_tables.structure_rows(per_class["structures"], kind)
            for kind in ("lesion", "anatomy")
        },
        "splits": tables.count_splits(cases),
        "accounts": [row for path in inputs.accounts for row in _read_json(path)["accounts"]],
        "quarantine": [
            (path.stem, refusal)
            for path in sorted(inputs.quarantine.glob("*.jsonl"))
            for refusal in read_quarantine(path)
        ],
        "costs": inputs.costs,
        "total_seconds": sum(cost.seconds for cost in inputs.costs),
        "facts": inputs.facts,
    }


def _markdown(text: object) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no table breaks."""
    marks = {ord(mark): f"\\{mark}" for mark in "\\`*_[]|#"}
    marks |= {ord("<"): "&lt;", ord(">"): "&gt;", ord("&"): "&amp;"}
    marks |= dict.fromkeys(map(ord, _LINE_ENDS), " ")
    return str(text).translate(marks)


def _markdown_pieces(pieces: Sequence[Piece]) -> str:
    """Write a report with its abnormal phrases in bold."""
    shown = [
        f"**{_markdown(piece.text)}**" if piece.abnormality else _markdown(piece.text)
        for piece in pieces
    ]
    return "".join(shown)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, f"not readable as JSON ({error})", "run `dvc repro`") from None
    return document
