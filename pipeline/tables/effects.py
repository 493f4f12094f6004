"""Differences of two arms, ours paired and with interval beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipeline.tables.published import Published
from pipeline.tables.results import Estimate, Result, difference

METRICS: Final = {  # in which two arms are compared, and what they are called
    "f1": "F1",
    "bleu_mean": "BLEU-mean",
    "side_right": "right sides",
    "lobe_right": "right lobes",
    "size_right": "right sizes",
    "beyond_findings": "impressions beyond findings",
}


def effect_of(
    label: str,
    sides: tuple[Result | None, Result | None],
    papers: tuple[Published | None, Published | None],
    metrics: Sequence[str],
) -> dict[str, Any]:
    """Subtract the second of two arms from the first, by metric.

    Returns:
        label; seeds that both have; n, the test scans of each; metrics: by name `paper` and `ours`,
        which are None where they were not published or not run.
    """
    first, second = sides
    seeds = sorted(set(first.seeds) & set(second.seeds)) if first and second else []
    sizes = {len(r.cases) for r in first.records if r.seed in seeds} if first else set()
    return {
        "label": label,
        "seeds": seeds,
        "n": sorted(sizes),
        "metrics": {
            metric: {"paper": _papers(papers, metric), "ours": _ours(sides, metric)}
            for metric in metrics
        },
    }


def number(found: Estimate) -> dict[str, Any]:
    """Write an estimate into a document."""
    interval = [round(bound, 6) for bound in found.interval] if found.interval else None
    return {"mean": round(found.mean, 6), "interval": interval}


def _papers(papers: tuple[Published | None, Published | None], metric: str) -> float | None:
    values = [paper.values.get(metric) for paper in papers if paper is not None]
    known = [value for value in values if value is not None]
    return round(known[0] - known[1], 6) if len(known) == 2 else None


def _ours(sides: tuple[Result | None, Result | None], metric: str) -> Mapping[str, Any] | None:
    first, second = sides
    found = difference(first, second, metric) if first and second else None
    return number(found) if found else None
