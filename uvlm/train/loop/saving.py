"""When the state of a training is saved: every few minutes, by a thread, while training goes on.

The training waits only while its state is copied to the computer's memory; the copy is hashed and
written beside it. A save that comes before the last one is on disk waits for that one, so there is
never more than one copy.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

import torch
from torch import nn

from uvlm.processes import place
from uvlm.train.loop.resume import Best, Reached, ResumeFolder

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Saver:
    """Saves one training; as a context it ends when everything saved is on disk."""

    def __init__(
        self,
        state: ResumeFolder,
        fabric: Fabric,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        minutes: float,
    ) -> None:
        """Start the clock.

        Args:
            state: where to save.
            fabric: of the training.
            model: what is saved, with `optimizer`.
            optimizer: of the model.
            minutes: from one save to the next; 0 saves after every step, however slow the disk.
        """
        self._state, self._fabric = state, fabric
        self._model, self._optimizer = model, optimizer
        self._seconds, self._last = 60 * minutes, time.monotonic()
        self._saved: tuple[int, bool] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="saver")
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._thread.shutdown(wait=True)
        if kind is None:  # else that error is the one to show
            self.wait()

    def load(self) -> Reached:
        """Restore what was saved before this process began."""
        reached = self._state.load(self._model, self._optimizer)
        self._saved = (reached.step, reached.is_validated) if reached.step else None
        return reached

    def save(self, step: int, best: Best | None, *, is_validated: bool = True) -> None:
        """Save the state after `step` steps, unless that was saved last.

        All processes have to call it, because sharded weights are put together.
        """
        if self._saved == (step, is_validated):
            return
        self.wait()
        snapshot = self._state.snapshot(self._model, self._optimizer, step, best, is_validated)
        if snapshot is not None:
            self._writing = self._thread.submit(self._state.write, snapshot)
        self._saved, self._last = (step, is_validated), time.monotonic()

    def is_due(self) -> bool:
        """Tell whether it is time to save; every process must ask at the same step.

        The clock of the first process decides for all.

        Raises:
            SetupError: the last save could not be written.
        """
        is_late = time.monotonic() - self._last >= self._seconds
        if self._writing is not None:
            if self._writing.done() or self._seconds == 0:
                self.wait()
            else:  # a slow disk makes saves rarer, not the training slower
                is_late = False
        late = is_late and place().is_first
        return bool(self._fabric.strategy.reduce_boolean_decision(late, all=False))

    def wait(self) -> None:
        """Wait until the last save is on disk; raise what kept it from that."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()
