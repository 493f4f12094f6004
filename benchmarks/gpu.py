"""Steps of the three trainings, encoding and writing, at the paper's size, on the GPU at hand.

    python -m benchmarks.gpu        prints the tables and keeps them in reports/benchmarks.md

A time is the median of repeated steps. The floor is the FLOPs of one step, counted by torch, at the
chip's published dense bf16 rate; the share of the peak is the floor over the time. `busy` is the
time in which kernels ran, summed by torch's profiler over one step, over the time of a step without
it. Inputs are random and already on the device: these steps wait for no data. Trainings as `fit`
runs them, fed from a store by its own loaders, follow (`benchmarks.gpu_training`). What UVLM_TUNING
does is `python -m benchmarks.gpu_tuning`; what stage 3 holds, `python -m benchmarks.gpu_memory`.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Final

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu_steps, gpu_training
from benchmarks.gpu_steps import BATCH, Work
from benchmarks.measure import hardware, table, write_section
from benchmarks.sizes import Size, paper
from uvlm.errors import SetupError

# TFLOP/s, dense bf16, from the data sheets.
PEAK_BY_CHIP: Final = {"A100": 312.0, "H100": 989.0, "H200": 989.0, "L40S": 362.0}
TITLE: Final = "The paper's steps on a GPU"
_PROBED_TOKENS: Final = 32
_REPEATS: Final = 15
_LONGEST: Final = 3
_NAME: Final = 90  # letters of a kernel's name that are shown


@dataclass(frozen=True)
class Step:
    """One measured piece of work; what only a GPU tells is None on a CPU."""

    what: str
    milliseconds: float
    tflop: float | None  # None: not counted
    busy: float | None = None  # share of the time in which kernels ran
    kernels: int | None = None
    peak_mb: float | None = None  # memory of the device
    longest: tuple[tuple[str, float], ...] = ()  # kernels, with their shares of the busy time

    def cells(self, peak: float | None) -> list[str]:
        """One row of the table; `peak` in TFLOP/s."""
        floor = None if peak is None or self.tflop is None else 1e3 * self.tflop / peak
        return [
            self.what,
            f"{self.milliseconds:,.1f} ms",
            "" if floor is None else f"{floor:,.1f} ms",
            "" if floor is None else f"{100 * floor / self.milliseconds:.0f} %",
            "" if self.busy is None else f"{100 * self.busy:.0f} %",
            "" if self.kernels is None else f"{self.kernels:,}",
            "" if self.peak_mb is None else f"{self.peak_mb / 1024:.1f} GB",
            "" if self.tflop is None else f"{self.tflop:.2f}",
        ]


def measure(
    what: str,
    work: Work,
    device: torch.device,
    repeats: int,
    tflop: float | None = None,
    probe: Work | None = None,
) -> Step:
    """Warm up, count, measure.

    Args:
        what: names the work.
        work: is done once more than `repeats` times, and once for each count.
        device: where it runs.
        repeats: measurements of which the median is taken.
        tflop: of `work`, where it is known; what is compiled cannot be counted.
        probe: a short piece of long work: it is profiled instead, and nothing is counted.
    """
    work()
    if tflop is None and probe is None:
        with FlopCounterMode(display=False) as counter:
            work()
        tflop = counter.get_total_flops() / 1e12
    if device.type != "cuda":
        return Step(what, _milliseconds(work, device, repeats), tflop)
    torch.cuda.reset_peak_memory_stats(device)
    milliseconds = _milliseconds(work, device, repeats)
    peak_mb = torch.cuda.max_memory_allocated(device) / 2**20
    probed = _milliseconds(probe, device, repeats) if probe else milliseconds
    kernels = _kernels(probe or work, device)
    busy = sum(took for _, took in kernels)
    share, count = min(1.0, busy / probed), None if probe else len(kernels)
    return Step(what, milliseconds, tflop, share, count, peak_mb, _longest(kernels))


def _milliseconds(work: Work, device: torch.device, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        times.append(1e3 * (time.perf_counter() - start))
    return median(times)


def repeats(size: Size, device: torch.device) -> int:
    """Count the measurements of a step, which takes a GPU milliseconds."""
    return _REPEATS if device.type == "cuda" else size.repeats


def _kernels(work: Work, device: torch.device) -> list[tuple[str, float]]:
    """Run once under the profiler; name and milliseconds of every kernel and copy."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiler:
        work()
        _wait(device)
    found = [event for event in profiler.events() or [] if event.device_type.name == "CUDA"]
    return [(event.name, event.self_device_time_total / 1e3) for event in found]


def _longest(kernels: list[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """Add up kernels of the same name; the three that take longest, with their shares."""
    sums = Counter[str]()
    for name, took in kernels:
        sums[name] += took  # type: ignore[assignment]
    whole = sum(sums.values())
    return tuple((name, took / whole) for name, took in sums.most_common(_LONGEST))


def steps(size: Size, device: torch.device) -> Iterator[Step]:
    """Measure all steps; each frees its memory before the next."""
    for name, prepare in (
        (f"stage 1, {BATCH} patches {_times(size.patch)}", gpu_steps.stage_1),
        (f"stage 2, {BATCH} volumes {_times(size.grid)}", gpu_steps.stage_2),
        (f"stage 3, batch {BATCH}, encoder trained too", gpu_steps.stage_3_unfrozen),
        (f"stage 3, batch {BATCH}, frozen encoder in each step", gpu_steps.stage_3_uncached),
        (f"stage 3, batch {BATCH}, cached features", gpu_steps.stage_3_cached),
        (f"encode, a volume {_times(size.grid)}", gpu_steps.encoding),
        (f"masks of a volume {_times(size.grid)}, in windows", gpu_steps.masks),
    ):
        yield measure(name, prepare(size, device), device, repeats(size, device))
    for batch in (1, 8):
        work = gpu_steps.writing(size, device, batch, size.tokens)
        probe = gpu_steps.writing(size, device, batch, min(size.tokens, _PROBED_TOKENS))
        what = f"writing {size.tokens} tokens, batch {batch}"
        yield measure(what, work, device, 1, probe=probe)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _times(grid: tuple[int, int, int]) -> str:
    return " x ".join(map(str, grid))


def page(measured: list[Step], chip: str) -> str:
    """Write a table."""
    peak = next((value for name, value in PEAK_BY_CHIP.items() if name in chip), None)
    columns = ["step", "time", "floor", "share of peak", "busy", "kernels", "peak memory", "TFLOP"]
    return f"{table(columns, [step.cells(peak) for step in measured])}\n{_kernel_list(measured)}"


def _kernel_list(measured: list[Step]) -> str:
    """List the kernels that took longest; their names are the vendor's."""
    return "".join(
        f"- {step.what}: "
        + ", ".join(f"`{name[:_NAME]}` {100 * share:.0f} %" for name, share in step.longest)
        + "\n"
        for step in measured
        if step.longest
    )


def main() -> None:
    """Measure on the first GPU."""
    size = paper()

    def parts(device: torch.device, chip: str) -> Iterator[str]:
        yield page(shown(steps(size, device)), chip)
        yield "Trainings as they run, fed from a store in the page cache:"
        yield gpu_training.page(size)

    on_the_gpu(TITLE, "benchmarks.gpu", parts)


def on_the_gpu(
    title: str, module: str, parts: Callable[[torch.device, str], Iterator[str]]
) -> None:
    """Write a section part by part, so that one cut short keeps what it has measured."""
    if not torch.cuda.is_available():
        raise SetupError(module, "no CUDA device here", "run it on a machine with one")
    device = torch.device("cuda")
    chip = torch.cuda.get_device_name(device)
    written = [f"`python -m {module}`, {chip}, torch {torch.__version__}, {hardware()}."]
    for part in parts(device, chip):
        written.append(part)
        write_section(title, "\n\n".join(written))


def shown(measured: Iterator[Step]) -> list[Step]:
    """Collect steps, and say each as soon as it is measured."""
    found = []
    for step in measured:
        sys.stderr.write(f"{step.what}: {step.milliseconds:.1f} ms\n")
        found.append(step)
    return found


if __name__ == "__main__":
    try:
        main()
    except SetupError as error:
        sys.exit(str(error))
