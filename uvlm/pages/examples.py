"""Which generated reports a page shows, and how they differ from their references.

Examples are not picked by hand: test cases are sorted by agreement with the truth and taken at
fixed places, from good to bad.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from uvlm.data.cases import Case
from uvlm.pages.highlight import Piece, Spans, cut_at_spans
from uvlm.text.report import IMPRESSION_HEADING

BEST_QUANTILE, WORST_QUANTILE = 0.9, 0.1


@dataclass(frozen=True)
class Example:
    """A generated report beside its reference; `place` says where in the order it stands."""

    case_id: str
    agreement: float
    reference: tuple[Piece, ...]
    generated: tuple[Piece, ...]
    found: tuple[str, ...]
    missed: tuple[str, ...]
    invented: tuple[str, ...]
    place: str = ""


def choose_examples(
    cases: Sequence[Case], reports: Mapping[str, str], spans: Spans, count: int
) -> list[Example]:
    """Take test cases at evenly spaced places from the 90th to the 10th percentile of agreement.

    Args:
        cases: the test split.
        reports: generated report by case; a missing one counts as empty.
        spans: marks the phrases that state an abnormality.
        count: how many to take.
    """
    examples = [describe(case, reports.get(case.case_id, ""), spans) for case in cases]
    examples.sort(key=lambda example: (example.agreement, example.case_id))
    quantiles = np.linspace(BEST_QUANTILE, WORST_QUANTILE, min(count, len(examples)))
    return [_place(examples[round(q * (len(examples) - 1))], float(q)) for q in quantiles]


def describe(case: Case, generated: str, spans: Spans) -> Example:
    """Compare one generated report with its reference."""
    reference, generated = _in_paragraphs(case.report.text), _in_paragraphs(generated)
    true_spans, claimed_spans = spans(reference), spans(generated)
    true = dict.fromkeys(name for _, _, name in sorted(true_spans))
    claimed = dict.fromkeys(name for _, _, name in sorted(claimed_spans))
    found = tuple(name for name in true if name in claimed)
    missed = tuple(name for name in true if name not in claimed)
    invented = tuple(name for name in claimed if name not in true)
    agreement = _f1(len(found), len(missed) + len(invented))
    given = tuple(cut_at_spans(reference, true_spans))
    written = tuple(cut_at_spans(generated, claimed_spans))
    return Example(case.case_id, agreement, given, written, found, missed, invented)


def _in_paragraphs(text: str) -> str:
    """Put the impression on a line of its own."""
    return text.replace(f" {IMPRESSION_HEADING}", f"\n{IMPRESSION_HEADING}")


def _f1(hits: int, errors: int) -> float:
    """Compute the F1 of one case's abnormalities; 1 if there are none and none is claimed."""
    return 2 * hits / (2 * hits + errors) if hits + errors else 1.0


def _place(example: Example, quantile: float) -> Example:
    percentile = round(100 * quantile)
    word = "median" if percentile == 50 else f"{percentile}th percentile"
    return replace(example, place=word)
