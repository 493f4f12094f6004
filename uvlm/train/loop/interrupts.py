"""SIGTERM and SIGUSR1 become a request to stop that all processes of a training honour together."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Signals:
    """Remembers a signal instead of dying from it; does nothing outside the main thread."""

    def __init__(self, fabric: Fabric) -> None:
        self.received = ""
        self._fabric = fabric
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR1):
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agreed(self) -> str:
        """Name the signal to stop for, or ""; every process must ask at the same step.

        A signal may reach one process a moment before the others, and all must stop together.
        """
        if not self._fabric.strategy.reduce_boolean_decision(bool(self.received), all=False):
            return ""
        return self.received or "a signal to another process"

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name
