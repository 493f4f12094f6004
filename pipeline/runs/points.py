"""The numbers of a history as MLflow gets them: each name once at each step.

A stage that was stopped continues some steps back, so its history holds those twice, and a process
that was killed may have sent lines without noting it. Both would double points in a curve. So a
point is the first one of its step and name, its time is that of its line, and MLflow stores a point
that it has already no second time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple


class Point(NamedTuple):
    """One number of a curve; `time` is in seconds since the epoch."""

    step: int
    name: str
    value: float
    time: float


def new_points(lines: Sequence[Mapping[str, Any]], known: int, started: float) -> Iterator[Point]:
    """Yield the points of the lines after the first `known` ones.

    Args:
        lines: of a history.jsonl.
        known: how many of them MLflow has.
        started: when the stage started, for lines that tell only how long after.
    """
    seen = set[tuple[int, str]]()
    for number, line in enumerate(lines):
        step = int(line.get("step", 0))
        for name, value in line.get("metrics", {}).items():
            is_new = (step, name) not in seen
            seen.add((step, name))
            if number >= known and is_new:
                at = line["time"] if "time" in line else started + line["seconds"]
                yield Point(step, name, value, at)
