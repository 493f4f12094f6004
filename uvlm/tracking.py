"""Where a training reports its numbers: the `Tracker` protocol and its two plain implementations.

The library knows only these protocols, so it runs without DVC, MLflow or a terminal.

    history.jsonl    one line per `log`: {"metrics": {...}, "seconds": 12.3, "step": 20,
                     "time": 1767225600.5}, seconds since the start and since the epoch
    history.csv      one row per step, one column per metric, for DVC plots and the summary page
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from uvlm.files import write_text_atomic

# How the names of times end: milliseconds a step took and waited for data, and their ratio.
TIMES: Final = ("step_ms", "wait_ms", "wait_share")


@runtime_checkable
class Tracker(Protocol):
    """Receives the numbers and facts of one training."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record numbers measured after `step` optimiser steps."""

    def params(self, values: Mapping[str, object]) -> None:
        """Record settings that were derived, such as the number of visual tokens."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Record facts that may change between attempts, such as the device."""

    def artifact(self, path: Path) -> None:
        """Keep a copy of a finished file or folder with the run."""


class Progress(Protocol):
    """Shows how far a long task has come."""

    def update(self, step: int, total: int, loss: float | None = None) -> None:
        """Show that `step` of `total` steps are done, with the latest loss if there is one."""


class NullTracker:
    """Records nothing."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Ignore."""

    def params(self, values: Mapping[str, object]) -> None:
        """Ignore."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Ignore."""

    def artifact(self, path: Path) -> None:
        """Ignore."""


@dataclass(frozen=True)
class Training:
    """How whoever starts a training identifies and follows it.

    Attributes:
        fingerprint: of everything that decides the result; an interrupted training with the same
            one is continued.
        params: what the model folder records of the parameters.
        tracker: receives numbers by step.
        progress: shows steps and loss.
    """

    fingerprint: str
    params: Mapping[str, Any]
    tracker: Tracker
    progress: Progress | None = None


class JsonlTracker:
    """Appends every record to a JSONL file, flushed line by line so that a crash loses nothing."""

    def __init__(self, path: Path) -> None:
        """Append to the history.jsonl at `path`, whose folder the first record makes."""
        self.path = path
        self._start = time.monotonic()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Append the numbers of one step."""
        seconds = round(time.monotonic() - self._start, 3)
        numbers = {name: float(value) for name, value in metrics.items()}
        now = round(time.time(), 3)
        self._append({"step": step, "metrics": numbers, "seconds": seconds, "time": now})

    def params(self, values: Mapping[str, object]) -> None:
        """Append derived settings."""
        self._append({"params": dict(values)})

    def tags(self, values: Mapping[str, str]) -> None:
        """Append facts about this attempt."""
        self._append({"tags": dict(values)})

    def artifact(self, path: Path) -> None:
        """Append the path of a finished file or folder."""
        self._append({"artifact": str(path)})

    def write_csv(self, path: Path) -> None:
        """Write the numbers logged so far as one row per step."""
        write_history_csv(self.path, path)

    def _append(self, record: Mapping[str, object]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(record, sort_keys=True, default=str) + "\n"
        with self.path.open("a+b") as file:
            # A crash may have cut the last line short: keep it apart from the new one.
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else f"\n{line}"
            file.write(line.encode("utf-8"))


def read_history(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every complete record of a history.jsonl; skip a line that a crash cut short."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            with suppress(json.JSONDecodeError):
                yield json.loads(line)


def write_history_csv(history: Path, path: Path) -> None:
    """Turn history.jsonl into one row per step; a step logged again after resuming counts once.

    A number that was not measured at a step, or is not finite, is an empty cell. Times are left
    out: they differ from run to run, and the table is compared by its digest.
    """
    by_step: dict[int, dict[str, float]] = {}
    for record in read_history(history):
        if "metrics" in record:
            by_step.setdefault(record["step"], {}).update(record["metrics"])
    logged = {name for metrics in by_step.values() for name in metrics}
    names = sorted(name for name in logged if not name.endswith(TIMES)) or ["loss"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["step", *names])
    for step, metrics in sorted(by_step.items()):
        values = [metrics.get(name, math.nan) for name in names]
        writer.writerow([step, *(f"{v:.6g}" if math.isfinite(v) else "" for v in values)])
    write_text_atomic(path, buffer.getvalue())
