"""Sliding windows over a whole volume, without the network, against MONAI's inferer."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.measure import cpu_seconds_of_both, peak_growth_mb
from benchmarks.ratios import Ratio
from benchmarks.sizes import Size
from uvlm.config import Grid
from uvlm.inference.sliding_window import predict_labels


class Ready:
    """A network that costs next to nothing: the same logits for every window."""

    def __init__(self, num_classes: int, patch: Grid) -> None:
        generator = torch.Generator().manual_seed(0)
        self.logits = torch.randn(1, num_classes, *patch, generator=generator)

    def __call__(self, x: Tensor) -> Tensor:
        return self.logits.repeat(len(x), 1, 1, 1, 1)  # MONAI writes to what it gets


Inputs = tuple[Ready, Tensor, Grid]


def draw(num_classes: int, grid: Grid, patch: Grid) -> Inputs:
    """Network, volume, window; MONAI's import is not measured."""
    import monai.inferers.utils  # noqa: F401

    return Ready(num_classes, patch), torch.zeros(1, 1, *grid), patch


def ours(inputs: Inputs) -> Tensor:
    """Class ids (D, H, W) as `generate` and `predict` make them."""
    network, x, patch = inputs
    return predict_labels(network, x, patch)[0]


def monai(inputs: Inputs) -> Tensor:
    """Class ids by MONAI, with the same overlap and weights."""
    from monai.inferers.utils import sliding_window_inference

    network, x, patch = inputs
    logits = sliding_window_inference(x, patch, 1, network, overlap=0.5, mode="gaussian")
    assert isinstance(logits, Tensor)
    return logits[0].argmax(dim=0).to(torch.uint8)


def measure(size: Size) -> list[Ratio]:
    """Measure all rows of this family."""
    arguments = (size.num_classes, size.grid, size.patch)
    inputs = draw(*arguments)
    seconds = cpu_seconds_of_both(lambda: monai(inputs), lambda: ours(inputs), min(2, size.repeats))
    same = float((monai(inputs) == ours(inputs)).float().mean())
    memory = [peak_growth_mb(f, *arguments, prepare=draw) for f in (monai, ours)]
    grid = " x ".join(map(str, size.grid))
    what = f"sliding window over {grid}, {size.num_classes} classes"
    how = f"the network only copies logits; {100 * same:.4f} % of the labels are equal"
    return [
        Ratio(what, "MONAI's inferer and argmax", *seconds, "s", 1.0,
              f"medians of {min(2, size.repeats)} in turn; {how}."),
        Ratio(f"{what}: memory", "MONAI's inferer and argmax", memory[0], memory[1], "MB", 4 / 3,
              "growth of the peak resident set over the inputs, in a process of its own."),
    ]  # fmt: skip
