"""What feeding one step costs a core of the CPU: reading, augmentation, collation; no network.

    python -m benchmarks.feeding    prints the table, keeps it in reports/benchmarks.md

Batches of `chest` at the paper's sizes, from a store on disk whose pages are cached. For a GPU a
batch is what a loader hands over, in shared memory; what the GPU does then is not in it. On a CPU
it is all that the network is given.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time
from typing import Final

import numpy as np
import torch

from benchmarks.measure import hardware, table, write_section
from benchmarks.preprocess import synthetic_ct
from benchmarks.sizes import Size, paper
from uvlm.arrays import Array
from uvlm.config import Grid
from uvlm.data.cases import Case
from uvlm.data.ct.grid import preprocess_volume
from uvlm.data.examples import Example
from uvlm.model.align import num_visual_tokens
from uvlm.seeding import generator
from uvlm.store import load_array, save_array
from uvlm.train.batches import Arrays
from uvlm.train.loop.faults import tensors_of
from uvlm.train.report_batches import ReportBatches, TokenInputs
from uvlm.train.volume_batches import ClsBatches, SegBatches, VolumeInputs, case_sampler

TITLE: Final = "Feeding one step"
BARS_MS: Final = {"stage 1": 120.0, "stage 2": 300.0, "stage 3": 6.0}
_CASES: Final = 4
_UNUSED: Final = (0.0, 1.0)  # mean and deviation: `chest` normalises by a window
_ABNORMALITIES: Final = 18
_WORDS: Final = 300  # of a report


@dataclass(frozen=True, eq=False)
class TimedArrays(Arrays):
    """Reads as a training does and adds up the CPU seconds."""

    seconds: list[float] = field(default_factory=list)

    def whole(self, path: Path) -> Array:
        """Read a whole array."""
        start = process_time()
        array = super().whole(path)
        self.seconds.append(process_time() - start)
        return array

    def region(self, path: Path, slices: tuple[slice, ...]) -> Array:
        """Read a region."""
        start = process_time()
        array = super().region(path, slices)
        self.seconds.append(process_time() - start)
        return array


@dataclass(frozen=True)
class Feed:
    """CPU milliseconds of one step: reading the store, and everything with it."""

    reading: float
    whole: float


Batches = SegBatches | ClsBatches | ReportBatches


def readers(size: Size, store: Path, *, on_device: bool) -> dict[str, tuple[Batches, TimedArrays]]:
    """Build the batches of every stage, from cases made in `store`."""
    params = size.params
    examples = [_example(size, store, number) for number in range(_CASES)]
    timed = {name: TimedArrays(keep=False) for name in BARS_MS}
    sampler = case_sampler(examples, 0.0)
    seg = SegBatches(
        examples,
        timed["stage 1"],
        params.preprocess,
        params.train_seg,
        sampler,
        np.ones(size.num_classes),
        frozenset({1}),
        seed=0,
        on_device=on_device,
    )
    augment = params.train_cls.augment
    volumes = VolumeInputs(examples, timed["stage 2"], params.preprocess, augment, on_device)
    cls = ClsBatches("cls", examples, volumes, sampler, params.train_cls.batch_size, seed=0)
    channels = params.encoder.channels
    tokens = [_tokens(size, store, number) for number in range(_CASES)]
    silence = np.zeros(sum(channels), np.float32)
    inputs = TokenInputs(tokens, [1] * _CASES, timed["stage 3"], channels, silence, on_device)
    length = min(_WORDS, params.decoder.max_report_tokens - 2)
    cases, reports = [example.case for example in examples], [[5] * length] * _CASES
    report = ReportBatches(cases, reports, inputs, params.train_report, sampler, 0, pad_id=0)
    batches: list[Batches] = [seg, cls, report]
    return {name: (each, timed[name]) for name, each in zip(BARS_MS, batches, strict=True)}


def measure(batches: Batches, arrays: TimedArrays, repeats: int, *, hand_over: bool) -> Feed:
    """Average the CPU time of some batches; what is augmented differs from batch to batch."""
    batches.read(0)  # imports, and pages of the store
    arrays.seconds.clear()
    start = process_time()
    for number in range(1, repeats + 1):
        batch = batches.read(number)
        if hand_over:
            for tensor in tensors_of(batch, "batch").values():
                tensor.share_memory_()
    each = 1e3 * (process_time() - start) / repeats
    return Feed(1e3 * sum(arrays.seconds) / repeats, each)


def main() -> None:
    """Measure, print and keep the table."""
    torch.set_num_threads(1)
    repeats = {"stage 1": 60, "stage 2": 12, "stage 3": 200}
    with tempfile.TemporaryDirectory() as folder:
        feeds = [
            {
                name: measure(*reader, repeats[name], hand_over=on_device)
                for name, reader in readers(paper(), Path(folder), on_device=on_device).items()
            }
            for on_device in (True, False)
        ]
    text = (
        f"`python -m benchmarks.feeding`, {hardware()}, torch {torch.__version__}. Milliseconds of "
        "CPU time of one thread for a step of `chest` at batch 2, page cache warm, means of "
        f"{', '.join(map(str, repeats.values()))} batches; no network. For a GPU a batch ends in "
        "shared memory, unfinished where the GPU augments; on a CPU it is finished."
    )
    write_section(TITLE, f"{text}\n\n{page(*feeds)}")


def page(on_gpu: dict[str, Feed], on_cpu: dict[str, Feed]) -> str:
    """Write the table."""
    columns = ["step of", "for a GPU", "of it reading", "at most", "on a CPU", "of it reading"]
    rows: list[Sequence[str]] = []
    for name, bar in BARS_MS.items():
        gpu, cpu = on_gpu[name], on_cpu[name]
        numbers = (gpu.whole, gpu.reading, bar, cpu.whole, cpu.reading)
        rows.append([name, *(f"{number:.1f}" for number in numbers)])
    return table(columns, rows)


def _example(size: Size, store: Path, number: int) -> Example:
    """Make a preprocessed CT and a label map of it."""
    volume, labels = (store / f"{kind}{number}.b2nd" for kind in ("volume", "labels"))
    z, y, x = size.grid
    if not volume.exists():
        shape = (z * 3 // 2, y * 2, x * 2)
        hu, _ = preprocess_volume(synthetic_ct(shape), size.params.preprocess)
        save_array(volume, hu)
        save_array(labels, _label_map(size.grid, size.num_classes, number))
    counts = np.bincount(load_array(labels).ravel(), minlength=size.num_classes)
    flags = tuple(int(bit) for bit in generator(0, "flags", number).integers(0, 2, _ABNORMALITIES))
    name = f"train_{number}_a_1"
    case = Case(name, name, name, "train", "", None, {}, flags, "Normal.", "None.")
    voxels = {class_id: int(count) for class_id, count in enumerate(counts) if count}
    return Example(case, volume, "", (z, y, x), _UNUSED, labels, voxels)


def _label_map(grid: Grid, num_classes: int, number: int) -> Array:
    """Draw organs as balls of all sizes, on background."""
    rng = generator(0, "organs", number)
    axes = np.ogrid[tuple(slice(0, edge) for edge in grid)]
    labels = np.zeros(grid, np.uint8)
    for class_id in range(1, num_classes):
        radius = rng.uniform(min(grid) / 40, min(grid) / 6)
        at = [rng.uniform(0, edge) for edge in grid]
        inside = sum((axis - c) ** 2 for axis, c in zip(axes, at, strict=True)) < radius**2
        labels[inside] = class_id
    return labels


def _tokens(size: Size, store: Path, number: int) -> Path:
    """Store visual tokens of a case as `encode` does."""
    path, encoder = store / f"tokens{number}.b2nd", size.params.encoder
    count = num_visual_tokens(size.grid, encoder.strides, size.params.injection.reference_stage)
    shape = (count, sum(encoder.channels))
    save_array(path, generator(0, "tokens", number).normal(size=shape).astype(np.float16))
    return path


if __name__ == "__main__":
    main()
