"""The model card of a run, and a draft of the CLAIM checklist for a paper about it.

<out>/model_card.md   what the model is for, what it was made from, how good it is, where it fails
<out>/claim.md        the 42 items of CLAIM (uvlm/pages/claim.py), with what a run knows filled in

Every number comes from the files of the run. Whoever passes on weights passes the card on too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from uvlm.config import Params
from uvlm.data.cases import read_index
from uvlm.files import write_text_atomic
from uvlm.pages import beyond_presence, remarks, scales, tables
from uvlm.pages.claim import CLAIM_COLUMNS, ClaimFacts, claim_items
from uvlm.pages.html import render
from uvlm.pages.licence import WeightsLicence
from uvlm.pages.summary import DISCLAIMER, SummaryInputs, markdown, notes_of, read_json
from uvlm.pages.tables import Number, number_at
from uvlm.text.attributes import VALUES
from uvlm.text.predictions import has_learned, load_predictions

CARD: Final = "model_card.md"
CLAIM: Final = "claim.md"
_NUM_WEAKEST: Final = 3


def write_cards(
    params: Params, inputs: SummaryInputs, licence: WeightsLicence, out: Path
) -> list[Path]:
    """Write model card and checklist into `out`; returns their paths."""
    page = _page(params, inputs, licence)
    paths = []
    for name in (CARD, CLAIM):
        paths.append(out / name)
        write_text_atomic(paths[-1], render(f"{name}.j2", page, md=markdown))
    return paths


def _page(params: Params, inputs: SummaryInputs, licence: WeightsLicence) -> dict[str, Any]:
    """Gather what both templates show."""
    cases = read_index(inputs.index)
    metrics, rows = read_json(inputs.metrics), read_json(inputs.per_class)["abnormalities"]
    splits, learned = tables.count_splits(cases), partial(has_learned, inputs.predictions)
    found = ClaimFacts(params.download.source, metrics, splits, licence.name, inputs.facts)
    return {
        "profile": params.profile,
        "disclaimer": DISCLAIMER,
        "notes": notes_of(params),
        "model": next((p.model for p in load_predictions(inputs.predictions)), ""),
        "source": params.download.source,
        "licence": licence,
        "splits": splits,
        "accounts": [row for path in inputs.accounts for row in read_json(path)["accounts"]],
        "metrics": metrics,
        "size": remarks.size_of_test(metrics),
        "missing": remarks.missing_remark(metrics),
        "untrained": remarks.untrained_remarks(learned),
        "method_remark": remarks.method_remark(params),
        "labels_remark": remarks.labels_remark(
            metrics["protocol"]["labeller"], labels_are_read=inputs.labels_are_read
        ),
        "headlines": tables.headlines(metrics, {}),
        "baselines": tables.score_tables(metrics)[0],
        "classifier": tables.classifier_numbers(metrics),
        "calibration": scales.calibration_rows(metrics),
        "collapse": tables.collapse_rows(metrics["collapse"], can_swap=metrics["n_patients"] > 1),
        "attributes": attribute_remarks(metrics["report"]),
        "consistency": beyond_presence.consistency_remark(metrics["report"]),
        "not_learned": [row for row in rows if row["not_learned"]],
        "weakest": weakest(rows),
        "learned_remark": remarks.learned_remark(metrics["classes"]),
        "plural": remarks.plural,
        "facts": inputs.facts,
        "claim": claim_items(found),
        "claim_columns": CLAIM_COLUMNS,
    }


def weakest(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, Number]]:
    """Find the abnormalities that reports name worst: name, positive scans, F1; those with any."""
    judged = [row for row in rows if row["support"] and row.get("report_f1") is not None]
    worst = sorted(judged, key=lambda row: (row["report_f1"], row["name"]))[:_NUM_WEAKEST]
    return [(row["name"], row["support"], number_at(row, "report_f1")) for row in worst]


def attribute_remarks(report: Mapping[str, Any]) -> list[str]:
    """Say of side, lobe and size whether reports do better than always the commonest."""
    return [_attribute_remark(kind, report[kind]) for kind in VALUES]


def _attribute_remark(kind: str, scores: Mapping[str, Any]) -> str:
    right, above = number_at(scores, "right"), number_at(scores, "above_commonest")
    if right.value is None:
        return f"{kind.capitalize()}: not measured, as no report of the test split names one."
    told = f"{kind.capitalize()}: right in {right.text} ({right.range}) of {scores['n']:,}"
    usual = f"always writing {scores.get('commonest_value', '')!r}"
    if above.value is None or above.interval is None:
        return f"{told}; not compared with {usual}."
    low, high = above.interval
    gap = f"difference {above.text} ({above.range})"
    if low > 0:
        return f"{told}, better than {usual}: {gap}."
    verdict = "worse than" if high < 0 else "not shown to be better than"
    return f"**{told}, {verdict} {usual}: {gap}. Do not rely on it.**"
