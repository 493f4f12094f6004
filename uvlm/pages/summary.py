"""The summary of a run: a Markdown file, and an HTML page that needs no other file.

<out>/summary.md      numbers and reports for the terminal and the repository's web page
<out>/summary.html    the same with figures embedded; opens offline, prints on A4
<out>/figures/*.png   training_curves, f1_by_abnormality, reliability, slice

A number or a picture of a part that has not learned anything is left out, and the page says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from uvlm.config import SYNTHETIC, Params
from uvlm.data.cases import Case, read_index, scored_cases
from uvlm.data.label_scheme import LabelScheme, scheme
from uvlm.errors import DataError
from uvlm.files import write_bytes_atomic, write_text_atomic
from uvlm.pages import beyond_presence, mask_tables, operating_points, remarks, scales, tables
from uvlm.pages.examples import Example, choose_examples
from uvlm.pages.figures import draw_figures, read_history
from uvlm.pages.highlight import Piece, colour_of, highlight
from uvlm.pages.html import png_url, render
from uvlm.pages.slices import MaskedSlice, choose_slice
from uvlm.store import read_quarantine
from uvlm.text.claims import Phrases, load_claims
from uvlm.text.predictions import has_learned, load_predictions

DISCLAIMER = (
    "Unreviewed research draft. Every report, probability and mask here was made by a program and "
    "reviewed by nobody. Research use only, not a medical device."
)
PHANTOM_NOTE = (
    "All CTs of this run are synthetic phantoms; no number here says anything about patients."
)

_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # as str.splitlines sees them


@dataclass(frozen=True)
class StageCost:
    """What one pipeline stage cost; `peak_mb` is the growth of its resident memory."""

    stage: str
    seconds: float
    peak_mb: float | None = None


@dataclass(frozen=True)
class SummaryInputs:
    """Everything that the page is made of.

    Args:
        index: manifest of the stage `index`.
        preprocess: manifest of the stage `preprocess`, for the image of the slice.
        label_maps: manifest of the reference label maps.
        generated_masks: manifest of the predicted label maps.
        predictions: predictions JSONL.
        metrics: reports/metrics.json.
        per_class: reports/per_class.json.
        claims: data/claims.json.
        quarantine: folder of quarantine files, one per stage.
        histories: history.csv of each training, in order.
        phrases: marks what the run's labeller reads in a report.
        labels_are_read: the labels come from that labeller too, for want of a table.
        costs: seconds and memory of each stage, in order.
        facts: versions, hashes and the like, shown unchanged.
        accounts: JSON files whose `accounts` say what became of the rows of each table.
    """

    index: Path
    preprocess: Path
    label_maps: Path
    generated_masks: Path
    predictions: Path
    metrics: Path
    per_class: Path
    claims: Path
    quarantine: Path
    histories: Mapping[str, Path]
    phrases: Phrases
    labels_are_read: bool = False
    costs: Sequence[StageCost] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    accounts: Sequence[Path] = ()


def build_summary(params: Params, inputs: SummaryInputs, out: Path) -> None:
    """Draw the figures and write summary.md and summary.html in `out`."""
    cases = read_index(inputs.index)
    test = scored_cases(cases)
    examples = _examples(params, inputs, test)
    metrics, per_class = read_json(inputs.metrics), read_json(inputs.per_class)
    classes = scheme(params.label_maps.dataset, params.label_maps.scheme)
    masked = _masked_slice(inputs, test, classes)
    histories = {stage: read_history(path) for stage, path in inputs.histories.items()}
    rows, calibration = per_class["abnormalities"], metrics["calibration"]
    figures = draw_figures(histories, rows, calibration, masked, classes)
    for name, picture in figures.items():
        write_bytes_atomic(out / "figures" / f"{name}.png", picture)
    urls = {name: png_url(picture) for name, picture in figures.items()}
    page = _page(params, inputs, cases, metrics, per_class)
    page |= {"examples": examples, "slice": masked, "figures": urls | _curve(metrics)}
    html = render("summary.html.j2", page, colour=colour_of, highlight=highlight)
    text = render("summary.md.j2", page, md=markdown, md_pieces=_markdown_pieces)
    write_text_atomic(out / "summary.html", html)
    write_text_atomic(out / "summary.md", text)


def _curve(metrics: dict[str, Any]) -> dict[str, str]:
    """Draw the operating points, if there are any; only the HTML page shows them as a picture."""
    found = metrics.get("operating_points")
    if found is None:
        return {}
    return {"operating_points": png_url(operating_points.draw_points(found["points"]))}


def _masked_slice(
    inputs: SummaryInputs, test: Sequence[Case], classes: LabelScheme
) -> MaskedSlice | None:
    """Choose the slice to draw; None where there are no masks to show."""
    if not has_learned(inputs.predictions, "segmentation"):
        return None
    manifests = inputs.preprocess, inputs.label_maps, inputs.generated_masks
    return choose_slice([case.case_id for case in test], classes, *manifests)


def _examples(params: Params, inputs: SummaryInputs, test: Sequence[Case]) -> list[Example]:
    reports = {p.case_id: p.report for p in load_predictions(inputs.predictions)}
    claims, count = load_claims(inputs.claims)[1], params.summarize.num_examples
    return choose_examples(test, reports, claims, inputs.phrases, count)


def _page(
    params: Params,
    inputs: SummaryInputs,
    cases: Sequence[Case],
    metrics: dict[str, Any],
    per_class: dict[str, Any],
) -> dict[str, Any]:
    """Gather what the templates show, except pictures and examples."""
    rows = per_class["abnormalities"]
    for number, row in enumerate(rows):
        row["positives"] = tables.positives_by_split(cases, number)
        row["numbers"] = tables.class_numbers(row)
    return {
        "profile": params.profile,
        "disclaimer": DISCLAIMER,
        "notes": notes_of(params),
        "metrics": metrics,
        **_remarks(inputs, metrics),
        "headlines": tables.headlines(metrics, dict(params.summarize.goals)),
        "score_tables": [*tables.score_tables(metrics), scales.averages_table(metrics)],
        **_beyond_presence(metrics),
        **_operating_points(metrics),
        "bleu": tables.bleu_table(metrics),
        "meteor": tables.meteor_line(metrics["report"]),
        "classifier": tables.classifier_numbers(metrics),
        "calibration": scales.calibration_rows(metrics),
        "temperature": scales.temperature_of(metrics),
        "collapse": tables.collapse_rows(metrics["collapse"], can_swap=metrics["n_patients"] > 1),
        "method_remark": remarks.method_remark(params),
        "class_columns": [label for _, label in tables.CLASS_COLUMNS],
        "abnormalities": sorted(rows, key=_by_f1),
        "plural": remarks.plural,
        "legend": [row["name"] for row in rows],
        "not_learned": [row for row in rows if row["not_learned"]],
        **_mask_tables(metrics["seg"], per_class["structures"]),
        "splits": tables.count_splits(cases),
        **_provenance(inputs),
    }


def notes_of(params: Params) -> list[str]:
    """Say what kind of run this is, where that limits what its numbers mean."""
    phantoms = PHANTOM_NOTE if params.download.source in SYNTHETIC else ""
    return [note for note in (params.summarize.note, phantoms) if note]


def _by_f1(row: dict[str, Any]) -> tuple[bool, float, str]:
    """Sort the best first, and what is not judged last."""
    return not row["support"], -row["report_f1"], row["name"]


def _remarks(inputs: SummaryInputs, metrics: dict[str, Any]) -> dict[str, Any]:
    """Say what the numbers and colours of this run mean."""
    labeller = metrics["protocol"]["labeller"]
    return {
        "size": remarks.size_of_test(metrics),
        "missing": remarks.missing_remark(metrics),
        "untrained": remarks.untrained_remarks(partial(has_learned, inputs.predictions)),
        "labels_remark": remarks.labels_remark(labeller, labels_are_read=inputs.labels_are_read),
        "macro_remark": remarks.macro_remark(
            metrics["classes"], has_probabilities=bool(metrics["cls"])
        ),
        "learned_remark": remarks.learned_remark(metrics["classes"]),
        "is_marked": inputs.phrases.claimed is not None,
        "marks_remark": remarks.marks_remark(labeller, inputs.phrases),
    }


def _beyond_presence(metrics: dict[str, Any]) -> dict[str, Any]:
    """Arrange what is said of side, lobe and size, and what of a report disagrees with what."""
    report = metrics["report"]
    return {
        "attributes": beyond_presence.attribute_rows(report),
        "attributes_remark": beyond_presence.reader_remark(report),
        "attribute_columns": [label for _, label in beyond_presence.COLUMNS],
        "presence_remark": beyond_presence.presence_remark(report, metrics["protocol"]["labeller"]),
        "consistency_remark": beyond_presence.consistency_remark(report),
        "contradictions_remark": beyond_presence.contradictions_remark(report),
    }


def _operating_points(metrics: dict[str, Any]) -> dict[str, Any]:
    """Arrange what the reports of validation are at each shift of the cues."""
    found = metrics.get("operating_points", {"points": []})
    return {
        "points": operating_points.point_rows(found),
        "point_columns": [label for _, label in operating_points.COLUMNS],
    }


def _mask_tables(seg: dict[str, Any], structures: list[dict[str, Any]]) -> dict[str, Any]:
    """Arrange the scores of the masks; `seg` is empty where none are shown."""
    return {
        "detection": mask_tables.detection_rows(seg.get("detection", {})),
        "structures": {
            kind: mask_tables.structure_rows(structures, kind) for kind in ("lesion", "anatomy")
        },
    }


def _provenance(inputs: SummaryInputs) -> dict[str, Any]:
    """List what became of the rows, what was refused, what it cost and what it was made with."""
    return {
        "accounts": [row for path in inputs.accounts for row in read_json(path)["accounts"]],
        "quarantine": [
            (path.stem, refusal)
            for path in sorted(inputs.quarantine.glob("*.jsonl"))
            for refusal in read_quarantine(path)
        ],
        "costs": inputs.costs,
        "total_seconds": sum(cost.seconds for cost in inputs.costs),
        "facts": inputs.facts,
    }


def markdown(text: object) -> str:
    """Escape text so that Markdown shows it literally: no markup, no HTML, no broken tables."""
    marks = {ord(mark): f"\\{mark}" for mark in "\\`*_[]|#"}
    marks |= {ord("<"): "&lt;", ord(">"): "&gt;", ord("&"): "&amp;"}
    marks |= dict.fromkeys(map(ord, _LINE_ENDS), " ")
    return str(text).translate(marks)


def _markdown_pieces(pieces: Sequence[Piece]) -> str:
    """Write a report with the phrases that claim an abnormality in bold."""
    marks = ("**" if piece.abnormality and piece.is_claimed else "" for piece in pieces)
    return "".join(f"{m}{markdown(p.text)}{m}" for m, p in zip(marks, pieces, strict=True))


def read_json(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, f"not readable as JSON ({error})", "run `dvc repro`") from None
    return document
