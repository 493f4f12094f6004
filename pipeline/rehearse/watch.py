"""Run a command and watch how much memory it and its children hold.

A process inherits the peak that `getrusage` reports from the one that starts it, so the peaks are
read from /proc, where a program begins with its own.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from uvlm.errors import Interrupted

_EVERY_S: Final = 0.1
_KIB: Final = re.compile(r"^(VmHWM|VmRSS):\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True)
class Watched:
    """How a command ended, and what it took; `together_mb` adds up all its processes."""

    code: int
    seconds: float
    peak_mb: float
    together_mb: float


def watch(command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> Watched:
    """Run a command to its end; if this process is stopped, stop it and all that it has started.

    Raises:
        Interrupted: SIGTERM came.
    """
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        return _watched(command, cwd, environment)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Interrupted(signal.Signals(number).name, "stopped by a signal", "run the command again")


def _watched(command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> Watched:
    start, peak, together = time.monotonic(), 0.0, 0.0
    process = subprocess.Popen(command, cwd=cwd, env=environment)
    try:
        while process.poll() is None:
            found = [_memory(pid) for pid in _family(process.pid)]
            peak = max([peak, *(largest for largest, _ in found)])
            together = max(together, sum(now for _, now in found))
            time.sleep(_EVERY_S)
    finally:
        for pid in list(_family(process.pid)) if process.poll() is None else []:
            with suppress(ProcessLookupError):  # stages save and end by themselves
                os.kill(pid, signal.SIGTERM)
        process.wait()
    return Watched(process.returncode, time.monotonic() - start, peak, together)


def _family(pid: int) -> Iterator[int]:
    """Yield a process and all below it; those that end meanwhile are left out."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text(encoding="ascii").split()
        except OSError:
            continue
        for child in children:
            yield from _family(int(child))


def _memory(pid: int) -> tuple[float, float]:
    """Read the peak and the present resident memory of a process in MB; zeros once it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0, 0.0
    sizes = {name: int(kib) / 1024 for name, kib in _KIB.findall(text)}
    return sizes.get("VmHWM", 0.0), sizes.get("VmRSS", 0.0)
