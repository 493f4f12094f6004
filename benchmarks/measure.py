"""Seconds of CPU, peaks of memory, and a section of reports/benchmarks.md."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from uvlm.files import write_text_atomic
from uvlm.variable import Variable, inherited

REPORT = Path("reports/benchmarks.md")


def cpu_seconds(work: Callable[[], Any], repeats: int) -> float:
    """Take the median CPU time of `work`, all threads of this process together."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def cpu_seconds_of_both(
    theirs: Callable[[], Any], ours: Callable[[], Any], repeats: int
) -> tuple[float, float]:
    """Median CPU times of two functions that run in turn, so that a noisy minute affects both."""
    times = [(cpu_seconds(theirs, 1), cpu_seconds(ours, 1)) for _ in range(repeats)]
    first, second = zip(*times, strict=True)
    return statistics.median(first), statistics.median(second)


def peak_growth_mb(
    work: Callable[..., Any], *arguments: Any, prepare: Callable[..., Any] | None = None
) -> float:
    """Run a picklable function in a new process; return by how many MB its memory peak rises.

    With `prepare`, that function gets the arguments, and `work` gets its result.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_grow, work, arguments, prepare).result()


def _grow(
    work: Callable[..., Any], arguments: tuple[Any, ...], prepare: Callable[..., Any] | None
) -> float:
    if prepare is not None:
        arguments = (prepare(*arguments),)
    before = _status_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    work(*arguments)
    return _status_mb("VmHWM") - before


def _status_mb(field: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kilobytes,) = re.findall(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    return int(kilobytes) / 1024


@contextmanager
def setting(variable: Variable[Any], text: str) -> Iterator[None]:
    """Set an environment variable, and leave it behind as it was; empty counts as not set."""
    before = inherited().get(variable.name, "")
    variable.set(text)
    try:
        yield
    finally:
        variable.set(before)


def hardware() -> str:
    """Name the processor and the versions that matter."""
    import blosc2
    import numpy as np

    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    name = found[1].strip() if found else platform.machine()
    return (
        f"{datetime.date.today()}, {name}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, numpy {np.__version__}, blosc2 {blosc2.__version__}"
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table; the first column is text, the others are numbers."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_section(title: str, body: str, path: Path = REPORT) -> None:
    """Put a section into the page in place of the one of the same title, and print it."""
    text = path.read_text(encoding="utf-8") if path.exists() else "# Benchmarks\n"
    section = f"## {title}\n\n{body.strip()}\n"
    sys.stdout.write(section)
    old = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if old.search(text):
        text = old.sub(lambda _: section + "\n", text)
    else:
        text = f"{text.rstrip()}\n\n{section}"
    write_text_atomic(path, text.rstrip() + "\n")
