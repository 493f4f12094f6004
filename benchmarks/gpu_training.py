"""The three trainings as `fit` runs them at the paper's size, fed from a store by their loaders.

What `benchmarks.gpu` measures beside single steps: how long a step takes with everything around it
(reading and decompressing in loader processes, copies to the device, augmentation there, the
numbers that the loop reads back), and how much of it the network waits for data. The page cache is
warm: a disk that is slower than its loaders is not in it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch

from benchmarks import gpu_steps
from benchmarks.feeding import readers
from benchmarks.measure import setting, table
from benchmarks.sizes import Size
from uvlm import environment
from uvlm.config import TrainConfig
from uvlm.device import choose_device
from uvlm.tracking import NullTracker
from uvlm.train.loop.fit import Scores, Task, Watch, fit
from uvlm.train.loop.launch import launch
from uvlm.train.loop.optim import build_optimizer
from uvlm.train.loop.resume import ResumeFolder

STEPS: Final = {"stage 1": 120, "stage 2": 60, "stage 3": 600}
_NETWORKS: Final = {
    "stage 1": gpu_steps.segmentation,
    "stage 2": gpu_steps.classification,
    "stage 3": gpu_steps.reports,
}


@dataclass
class _Log(NullTracker):
    """Keeps what `fit` logs."""

    rows: list[dict[str, float]] = field(default_factory=list)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Keep one row."""
        if "step_ms" in metrics:
            self.rows.append(dict(metrics))


def page(size: Size, steps: Mapping[str, int] = STEPS) -> str:
    """Run the trainings and write the table."""
    columns = ["training", "steps", "a step", "of it waiting for data", "peak memory"]
    return table(columns, [[name, f"{steps[name]}", *cells] for name, cells in _rows(size, steps)])


def _rows(size: Size, steps: Mapping[str, int]) -> Iterator[tuple[str, list[str]]]:
    device = choose_device()
    # States of the trainings lie in the folder too.
    with tempfile.TemporaryDirectory() as folder, setting(environment.DVC_ROOT, folder):
        fed = readers(size, Path(folder), on_device=device.type == "cuda")
        for name, (batches, _) in fed.items():
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            log = _train(name, size, batches, steps[name])
            peak = _peak(device)
            later = log.rows[len(log.rows) // 3 :]  # loaders have filled, kernels are chosen
            took, waited = (median(row[key] for row in later) for key in ("step_ms", "wait_ms"))
            yield name, [f"{took:.1f} ms", f"{waited:.1f} ms ({100 * waited / took:.0f} %)", peak]


def _peak(device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    return f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f} GB"


def _train(name: str, size: Size, batches: Any, steps: int) -> _Log:
    """Train a new network for some steps, without validations worth the name."""
    params, log = size.params, _Log()
    section: TrainConfig = {
        "stage 1": params.train_seg,
        "stage 2": params.train_cls,
        "stage 3": params.train_report,
    }[name]
    every = {"steps": steps, "val_every": steps, "log_every": max(1, steps // 12)}
    config = section.model_copy(update=every)
    fabric = launch(params.decoder.width if name == "stage 3" else None)
    net, objective = _NETWORKS[name](size, fabric.device)
    task = Task(objective, batches.read, lambda _: Scores(0.0, {}), 0, batches.finish)
    optimizer = build_optimizer(net, config.optim)
    with ResumeFolder(f"bench_{name[-1]}", "0-0-0") as state:
        fit(fabric, net, optimizer, task, config, Watch(log, None, state))
    return log
