"""How long a training waits for its data."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Any


class Waiting:
    """Batches, timed: the rest of a step is the network's."""

    def __init__(self, batches: Iterator[tuple[int, Any]]) -> None:
        self.batches = batches
        self.waited = 0.0
        self.since = perf_counter()

    def __next__(self) -> tuple[int, Any]:
        start = perf_counter()
        numbered = next(self.batches)
        self.waited += perf_counter() - start
        return numbered

    def step_ended(self) -> dict[str, float]:
        """Return the milliseconds of the step that ends here, and of them those spent waiting."""
        now = perf_counter()
        numbers = {"wait_ms": 1e3 * self.waited, "step_ms": 1e3 * (now - self.since)}
        self.waited, self.since = 0.0, now
        return numbers


def with_share(numbers: dict[str, float]) -> dict[str, float]:
    """Add the share of the time that was spent waiting."""
    return numbers | {"wait_share": numbers["wait_ms"] / numbers["step_ms"]}
