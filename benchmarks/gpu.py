"""Steps of the three trainings and of writing, at the paper's size, on the GPU at hand.

    python -m benchmarks.gpu        prints the table and keeps it in reports/benchmarks.md

Milliseconds are medians; FLOPs are counted by torch over one step; the share is of the chip's
published dense bf16 peak. Inputs are random and already on the device, so nothing here waits for a
disk. Nothing is compiled: this is what `dvc repro` runs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import hardware, table, write_section
from benchmarks.sizes import SPECIALS, Size, paper
from uvlm.config import OptimConfig
from uvlm.device import autocast
from uvlm.errors import SetupError
from uvlm.inference.decoding import Decoding
from uvlm.inference.writing import write_reports
from uvlm.model.build import build_classifier, build_encoder, build_unet
from uvlm.train.batches import ClsBatch, ReportBatch, SegBatch
from uvlm.train.cls import ClassifierNet
from uvlm.train.loop.optim import build_optimizer
from uvlm.train.losses.objectives import ClsObjective, Objective, ReportObjective, SegObjective
from uvlm.train.report_net import ReportNet

BATCH: Final = 2
# TFLOP/s, dense bf16, from the data sheets.
PEAK_BY_CHIP: Final = {"A100": 312.0, "H100": 989.0, "H200": 989.0, "L40S": 362.0}
TITLE: Final = "The paper's steps on a GPU"


@dataclass(frozen=True)
class Step:
    """One measured piece of work."""

    what: str
    milliseconds: float
    tflop: float
    peak_mb: float | None  # memory of the device; None on a CPU

    def cells(self, peak: float | None) -> list[str]:
        """One row of the table; `peak` in TFLOP/s."""
        rate = self.tflop / self.milliseconds * 1e3
        memory = "" if self.peak_mb is None else f"{self.peak_mb / 1024:.1f} GB"
        share = "" if peak is None else f"{100 * rate / peak:.0f} %"
        return [
            self.what, f"{self.milliseconds:.1f} ms", memory, f"{self.tflop:.2f}", f"{rate:.1f}",
            share,
        ]  # fmt: skip


def measure(what: str, work: Callable[[], Any], device: torch.device, repeats: int) -> Step:
    """Warm up, count, measure."""
    work()
    with FlopCounterMode(display=False) as counter:
        work()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times = []
    for _ in range(repeats):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        times.append(1e3 * (time.perf_counter() - start))
    memory = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    return Step(what, median(times), counter.get_total_flops() / 1e12, memory)


def steps(size: Size, device: torch.device) -> Iterator[Step]:
    """Measure all steps; each frees its memory before the next."""
    for name, prepare in (
        (f"stage 1, {BATCH} patches {_times(size.patch)}", stage_1),
        (f"stage 2, {BATCH} volumes {_times(size.grid)}", stage_2),
        (f"stage 3, batch {BATCH}, frozen encoder in each step", stage_3_uncached),
        (f"stage 3, batch {BATCH}, cached features", stage_3_cached),
    ):
        yield measure(name, prepare(size, device), device, size.repeats)
    for batch in (1, 8):
        work = writing(size, device, batch)
        yield measure(f"writing {size.tokens} tokens, batch {batch}", work, device, 1)


def stage_1(size: Size, device: torch.device) -> Callable[[], None]:
    """Train the U-Net on patches, with deep supervision."""
    config = size.params.train_seg
    x = torch.randn(BATCH, 1, *size.patch, device=device)
    target = torch.randint(size.num_classes, (BATCH, *size.patch), device=device)
    weights = torch.ones(size.num_classes)
    objective = SegObjective(weights, config.deep_supervision, config.dice_classes)
    unet = build_unet(size.params.encoder, size.num_classes)
    return _step(unet, objective, SegBatch([], x, target.to(torch.uint8)), config.optim, device)


def stage_2(size: Size, device: torch.device) -> Callable[[], None]:
    """Train encoder and classifier on whole volumes."""
    params, abnormalities = size.params, 18
    classifier = build_classifier(params.encoder, params.classifier, size.grid, abnormalities)
    x = torch.randn(BATCH, 1, *size.grid, device=device)
    truth = torch.randint(2, (BATCH, abnormalities), device=device).float()
    net = ClassifierNet(build_encoder(params.encoder), classifier)
    return _step(net, ClsObjective(), ClsBatch([], x, truth), params.train_cls.optim, device)


def stage_3_uncached(size: Size, device: torch.device) -> Callable[[], None]:
    """Train the decoder; the frozen encoder reads the volumes in each step."""
    encoder = build_encoder(size.params.encoder).requires_grad_(False)
    return _stage_3(size, device, encoder, torch.randn(BATCH, 1, *size.grid, device=device))


def stage_3_cached(size: Size, device: torch.device) -> Callable[[], None]:
    """Train the decoder on tokens as `encode` stores them."""
    return _stage_3(size, device, None, [tokens.to(device) for tokens in size.visual(BATCH)])


def writing(size: Size, device: torch.device, batch: int) -> Callable[[], None]:
    """Write reports greedily, to the full length."""
    model = size.uvlm(size.compact_vocabulary).to(device)
    visual = [tokens.to(device) for tokens in size.visual(batch)]
    model.specials = replace(SPECIALS, eos=-1)  # no token ends a report

    def work() -> None:
        with autocast(device, size.params.decoder.width):
            write_reports(model, visual, Decoding(size.tokens))

    return work


def _stage_3(
    size: Size, device: torch.device, encoder: nn.Module | None, x: list[Tensor] | Tensor
) -> Callable[[], None]:
    token_ids = torch.randint(5, size.compact_vocabulary, (BATCH, size.tokens + 1), device=device)
    uvlm = size.uvlm(size.compact_vocabulary).train()
    net = ReportNet(uvlm, size.params.injection, encoder)
    batch = ReportBatch([], x, token_ids)
    return _step(net, ReportObjective(), batch, size.params.train_report.optim, device)


def _step(
    net: nn.Module, objective: Objective, batch: Any, optim: OptimConfig, device: torch.device
) -> Callable[[], None]:
    """Forward, backward, optimiser."""
    net.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = build_optimizer(net, optim)

    def work() -> None:
        with autocast(device):
            loss = torch.stack(list(objective.loss(net, batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return work


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _times(grid: tuple[int, int, int]) -> str:
    return " x ".join(map(str, grid))


def page(measured: list[Step], chip: str) -> str:
    """Write the section."""
    peak = next((value for name, value in PEAK_BY_CHIP.items() if name in chip), None)
    columns = ["step", "time", "peak memory", "TFLOP", "TFLOP/s", "share of peak"]
    told = f"`python -m benchmarks.gpu`, {chip}, torch {torch.__version__}, {hardware()}."
    return f"{told}\n\n{table(columns, [step.cells(peak) for step in measured])}"


def main() -> None:
    """Measure on the first GPU."""
    if not torch.cuda.is_available():
        raise SetupError("benchmarks.gpu", "no CUDA device here", "run it on a machine with one")
    device = torch.device("cuda")
    write_section(TITLE, page(list(steps(paper(), device)), torch.cuda.get_device_name(device)))


if __name__ == "__main__":
    try:
        main()
    except SetupError as error:
        sys.exit(str(error))
