"""One line of the table: what both sides took, how many times less ours took, and the bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from benchmarks.measure import table


@dataclass(frozen=True)
class Ratio:
    """A baseline and ours, in the same unit; `times` says how many times less ours is."""

    what: str
    baseline: str  # what ours is compared with
    theirs: float
    ours: float
    unit: Literal["s", "ms", "MB"]
    at_least: float
    how: str  # how the numbers were got

    @property
    def times(self) -> float:
        """Their number over ours."""
        return self.theirs / self.ours

    def verdict(self, judges_time: bool) -> str:
        """`met`, `missed`, or `not judged` for seconds where the bar was not set for this CPU."""
        if self.unit != "MB" and not judges_time:
            return "not judged"
        return "met" if self.times >= self.at_least else "missed"


def has_amx() -> bool:
    """Tell whether this CPU multiplies bf16 in tiles, like the one on which the bars were set."""
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def ratio_table(rows: Sequence[Ratio], judges_time: bool) -> str:
    """Write the table, and below it how each number was measured."""
    columns = ["what", "against", "theirs", "ours", "ratio", "at least", "bar"]
    cells = [
        [
            row.what,
            row.baseline,
            _number(row.theirs, row.unit),
            _number(row.ours, row.unit),
            f"{row.times:.2f} x" if row.times < 10 else f"{row.times:.0f} x",
            f"{row.at_least:.3g} x",
            row.verdict(judges_time),
        ]
        for row in rows
    ]
    notes = "".join(f"- {row.what}: {row.how}\n" for row in rows)
    return f"{table(columns, cells)}\n{notes}"


def _number(value: float, unit: str) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {unit}"
