"""SIGTERM and SIGUSR1 become a wish to stop, which all processes of a training grant together."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from uvlm.train.loop.agreement import anywhere

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Signals:
    """Remembers a signal instead of dying from it; outside the main thread, nothing."""

    def __init__(self, fabric: Fabric) -> None:
        self.received = ""
        self._fabric = fabric
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR1):
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agreed(self) -> str:
        """Name the signal to stop for, or nothing; every process gives the same answer.

        One process may have got it a moment before the others, and they must not part ways.
        """
        if not anywhere(self._fabric, bool(self.received)):
            return ""
        return self.received or "a signal to another process"

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name
