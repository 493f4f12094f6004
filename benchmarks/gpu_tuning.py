"""What each setting of UVLM_TUNING does to a step of stages 1 and 2 at the paper's size.

    python -m benchmarks.gpu_tuning     prints the table and keeps it in reports/benchmarks.md

Columns as in `benchmarks.gpu`. The first step of `compile`, which takes minutes, is in no time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from benchmarks import gpu_steps
from benchmarks.gpu import Step, measure, on_the_gpu, page, repeats, shown
from benchmarks.measure import setting
from benchmarks.sizes import Size, paper
from uvlm import environment
from uvlm.errors import SetupError

TITLE: Final = "UVLM_TUNING on a GPU"
TUNINGS: Final = ("", "cudnn", "norms", "cudnn,norms", "compile")
_STAGES: Final = {"stage 1": gpu_steps.stage_1, "stage 2": gpu_steps.stage_2}


def tuned_steps(
    size: Size, device: torch.device, name: str, tunings: tuple[str, ...] = TUNINGS
) -> Iterator[Step]:
    """Measure one training under each setting."""
    tflop = None
    for tuning in tunings:
        with tuned(tuning):
            work = _STAGES[name](size, device)
            count = repeats(size, device)
            step = measure(f"{name}, {tuning or 'as it is'}", work, device, count, tflop=tflop)
        tflop = step.tflop
        yield step
        torch.compiler.reset()


@contextmanager
def tuned(tuning: str) -> Iterator[None]:
    """Set UVLM_TUNING, and what `launch` does for it."""
    torch.backends.cudnn.benchmark = "cudnn" in tuning
    try:
        with setting(environment.TUNING, tuning):
            yield
    finally:
        torch.backends.cudnn.benchmark = False


def main() -> None:
    """Measure on the first GPU."""
    size = paper()

    def parts(device: torch.device, chip: str) -> Iterator[str]:
        for name in _STAGES:
            yield page(shown(tuned_steps(size, device, name)), chip)

    on_the_gpu(TITLE, "benchmarks.gpu_tuning", parts)


if __name__ == "__main__":
    try:
        main()
    except SetupError as error:
        sys.exit(str(error))
