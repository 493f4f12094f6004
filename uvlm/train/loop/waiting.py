"""How long a training waits for its data."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Any


class Waiting:
    """Batches of a training, timed; a step lasts from asking for its first one to `step_ended`."""

    def __init__(self, batches: Iterator[tuple[int, Any]]) -> None:
        self.batches = batches
        self._waited = 0.0
        self._start: float | None = None

    def __next__(self) -> tuple[int, Any]:
        start = perf_counter()
        if self._start is None:
            self._start = start  # validating and saving between two steps are in neither
        numbered = next(self.batches)
        self._waited += perf_counter() - start
        return numbered

    def step_ended(self) -> dict[str, float]:
        """Return the milliseconds of the step that ends here, and those of them spent waiting."""
        now = perf_counter()
        took = now - (now if self._start is None else self._start)
        numbers = {"wait_ms": 1e3 * self._waited, "step_ms": 1e3 * took}
        self._waited, self._start = 0.0, None
        return numbers


def with_share(numbers: dict[str, float]) -> dict[str, float]:
    """Add the share of the time that was spent waiting."""
    return numbers | {"wait_share": numbers["wait_ms"] / numbers["step_ms"]}
