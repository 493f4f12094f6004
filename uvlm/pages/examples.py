"""Which generated reports a page shows, and how they differ from their references.

Examples are not picked by hand: test scans are sorted by agreement with their labels and taken at
fixed places, from good to bad. What a report claims is what its scores count (claims.json); marks
in the texts only show where a labeller reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from uvlm.data.cases import Case
from uvlm.errors import DataError
from uvlm.pages.highlight import Piece, cut_at_spans
from uvlm.text.claims import CaseClaims, Phrases, Span
from uvlm.text.report import IMPRESSION_HEADING

BEST_QUANTILE, WORST_QUANTILE = 0.9, 0.1


@dataclass(frozen=True)
class Example:
    """A generated report beside its reference; `place` says where in the order it stands.

    `verdict` says how well the claims agree with the labels. `unread` are labels that the labeller
    does not read in the reference, `unlabelled` what it reads there beside the labels.
    """

    case_id: str
    place: str
    verdict: str
    reference: tuple[Piece, ...]
    generated: tuple[Piece, ...]
    found: tuple[str, ...]
    missed: tuple[str, ...]
    invented: tuple[str, ...]
    unread: tuple[str, ...]
    unlabelled: tuple[str, ...]


def choose_examples(
    cases: Sequence[Case],
    reports: Mapping[str, str],
    claims: Mapping[str, CaseClaims],
    phrases: Phrases,
    count: int,
) -> list[Example]:
    """Take test scans at evenly spaced places from the 90th to the 10th percentile of agreement.

    Args:
        cases: the scored cases of the test split.
        reports: generated report by case; a missing one counts as empty.
        claims: what is true of each case, and what its reports claim.
        phrases: marks it in the texts.
        count: how many to take; all if there are no more.

    Raises:
        DataError: the claims are not those of these cases.
    """
    if lacking := [case.case_id for case in cases if case.case_id not in claims]:
        fact = f"has no claims of {len(lacking)} test scans, first {lacking[0]}"
        raise DataError("data/claims.json", fact, "run `dvc repro evaluate`")
    ordered = sorted(cases, key=lambda case: (agreement(claims[case.case_id]), case.case_id))
    return [
        describe(case, reports.get(case.case_id, ""), claims[case.case_id], phrases, place)
        for case, place in _places(ordered, count)
    ]


def agreement(claims: CaseClaims) -> float:
    """Compute the F1 of one case; 1 if there is nothing to find and nothing claimed."""
    if claims.claimed is None:
        return 0.0
    both = len({*claims.labels} & {*claims.claimed})
    named = len(claims.labels) + len(claims.claimed)
    return 2 * both / named if named else 1.0


def describe(
    case: Case, generated: str, claims: CaseClaims, phrases: Phrases, place: str
) -> Example:
    """Compare one generated report with the labels of its case, beside the reference."""
    reference, generated = _in_paragraphs(case.report.text), _in_paragraphs(generated)
    true_spans, claimed_spans = (_spans(text, phrases) for text in (reference, generated))
    said = claims.claimed or ()
    labels = _in_text_order(claims.labels, true_spans)
    return Example(
        case_id=case.case_id,
        place=place,
        verdict=_verdict(claims),
        reference=_pieces(reference, true_spans, phrases),
        generated=_pieces(generated, claimed_spans, phrases),
        found=tuple(name for name in labels if name in said),
        missed=tuple(name for name in labels if name not in said),
        invented=tuple(
            name for name in _in_text_order(said, claimed_spans) if name not in claims.labels
        ),
        unread=tuple(name for name in claims.labels if name not in claims.read),
        unlabelled=tuple(name for name in claims.read if name not in claims.labels),
    )


def _places(ordered: Sequence[Case], count: int) -> list[tuple[Case, str]]:
    """Choose from cases in ascending order, and say where each of them stands."""
    total = len(ordered)
    if total <= count:
        ranks = (f"number {rank} of {total} by agreement" for rank in range(1, total + 1))
        places = ["the only test scan"] if total == 1 else ranks
        return list(zip(reversed(ordered), places, strict=True))
    chosen: dict[int, str] = {}
    for quantile in np.linspace(BEST_QUANTILE, WORST_QUANTILE, count):
        percentile = round(100 * quantile)
        word = "median" if percentile == 50 else f"{percentile}th percentile"
        chosen.setdefault(round(quantile * (total - 1)), f"{word} of agreement")
    return [(ordered[number], place) for number, place in chosen.items()]


def _verdict(claims: CaseClaims) -> str:
    if claims.claimed is None:
        return "no report, which counts as wrong in every class"
    if not claims.labels and not claims.claimed:
        return "nothing to find and nothing claimed"
    return f"F1 of this case {agreement(claims):.2f}"


def _spans(text: str, phrases: Phrases) -> Sequence[Span]:
    return phrases.claimed(text) if phrases.claimed else ()


def _pieces(text: str, spans: Sequence[Span], phrases: Phrases) -> tuple[Piece, ...]:
    named = phrases.named(text) if phrases.named else ()
    return tuple(cut_at_spans(text, spans, named))


def _in_text_order(names: Iterable[str], spans: Sequence[Span]) -> list[str]:
    """Sort names by their first phrase; those without one follow as they are."""
    first = list(dict.fromkeys(name for _, _, name in sorted(spans)))
    return sorted(names, key=lambda name: first.index(name) if name in first else len(first))


def _in_paragraphs(text: str) -> str:
    """Put the impression on a line of its own."""
    return text.replace(f" {IMPRESSION_HEADING}", f"\n{IMPRESSION_HEADING}")
