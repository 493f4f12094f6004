"""Progress of long work: a rich bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_QUIET_S = 10.0


class ProgressBar:
    """Implements uvlm.tracking.Progress; a context manager that closes the bar."""

    def __init__(self, title: str, interactive: bool | None = None, shown: bool = True) -> None:
        self.title = title
        self.shown = shown
        self._interactive = sys.stderr.isatty() if interactive is None else interactive
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._start = self._last_line = time.monotonic()
        self._first = self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, total: int, loss: float | None = None) -> None:
        """Show that `step` of `total` is done; a smaller step than the last starts a new count."""
        if not self.shown:
            return
        now = time.monotonic()
        if step < self._done or self._done == 0:
            self._start, self._first = now, step
            if self._bar is not None and self._task is not None:
                self._bar.reset(self._task)  # else the speed of the last count is taken for this
        self._done = step
        loss_text = "" if loss is None else f"loss {loss:.4f}"
        if self._interactive:
            self._draw(step, total, loss_text)
        elif now - self._last_line >= _QUIET_S:
            self._last_line = now
            parts = [self.title, f"{step}/{total}", loss_text, self._left(now, step, total)]
            sys.stderr.write("  ".join(filter(None, parts)) + "\n")

    def cases(self, description: str, done: int, total: int) -> None:
        """Show that `done` of `total` cases are done, as uvlm.store.map_cases reports it."""
        self.title = description or self.title
        self.update(done, total)

    def _left(self, now: float, step: int, total: int) -> str:
        """Say how long the rest takes; nobody knows before a second step has been measured."""
        if step == self._first:
            return ""
        left = (now - self._start) / (step - self._first) * (total - step)
        minutes, seconds = divmod(round(left), 60)
        return f"{minutes}:{seconds:02d} left"

    def _draw(self, step: int, total: int, loss_text: str) -> None:
        if self._bar is None:
            self._bar = _new_bar()
            self._task = self._bar.add_task(self.title, total=total, loss="")
            self._bar.start()
        assert self._task is not None
        self._bar.update(
            self._task, description=self.title, completed=step, total=total, loss=loss_text
        )


def _new_bar() -> Progress:
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        "{task.description:<14}",
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        "{task.fields[loss]}",
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
