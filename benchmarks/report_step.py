"""One training step of stage 3: from cached tokens, and through the frozen encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from benchmarks import released
from benchmarks.measure import cpu_seconds
from benchmarks.ratios import Ratio
from benchmarks.sizes import Size
from uvlm.model.build import build_encoder
from uvlm.model.uvlm import UVLM
from uvlm.train.report_net import ReportNet


def measure(size: Size) -> list[Ratio]:
    """Measure all rows of this family."""
    text, visual = size.tokens * 3 // 4, size.visual()
    token_ids = torch.randint(5, size.compact_vocabulary, (1, text + 1))
    encoding = encoder_seconds(size)
    large, compact = size.uvlm(size.vocabulary), size.uvlm(size.compact_vocabulary)

    def released_loss() -> Tensor:
        return released.token_loss(large, visual, token_ids)

    theirs = step_seconds(large, released_loss, size.repeats, bf16=False)
    same, ours = (
        step_seconds(model, ReportLoss(size, model, visual, token_ids), size.repeats, bf16=bf16)
        for model, bf16 in ((large, False), (compact, True))
    )
    how = (
        f"batch 1, {text} text tokens, forward, backward and AdamW, medians of {size.repeats}; "
        f"theirs adds one forward pass of the fp32 encoder over {size.grid}, measured once "
        f"({encoding:.1f} s)"
    )
    what = "report training step from cached features"
    return [
        Ratio(f"{what}, {size.vocabulary:,} words, fp32", "frozen encoder each step, same decoder",
              encoding + same, same, "s", 10.0, f"{how}."),
        Ratio(f"{what}, {size.compact_vocabulary:,} words, bf16", "frozen encoder each step, "
              f"the release's decoder step, {size.vocabulary:,} words, fp32",
              encoding + theirs, ours, "s", 60.0,
              f"{how}, and a decoder step of {theirs:.2f} s with logits of all positions."),
    ]  # fmt: skip


@torch.no_grad()
def encoder_seconds(size: Size) -> float:
    """CPU seconds of the fp32 encoder over one whole volume."""
    encoder = build_encoder(size.params.encoder).eval()
    x = torch.randn(1, 1, *size.grid)
    return cpu_seconds(lambda: encoder(x), 1)


class ReportLoss:
    """The loss of stage 3 on cached tokens."""

    def __init__(
        self, size: Size, model: UVLM, visual: Sequence[Tensor], token_ids: Tensor
    ) -> None:
        self.net = ReportNet(model, size.params.injection, encoder=None)
        self.batch = visual, token_ids

    def __call__(self) -> Tensor:
        loss: Tensor = self.net(*self.batch)
        return loss


def step_seconds(
    model: nn.Module, loss: Callable[[], Tensor], repeats: int, *, bf16: bool
) -> float:
    """Median CPU seconds of a step."""
    return cpu_seconds(training_step(model, loss, bf16=bf16), repeats)


def training_step(
    model: nn.Module, loss: Callable[[], Tensor], *, bf16: bool
) -> Callable[[], None]:
    """Return what makes a step, after one that creates the optimiser's state."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16) if bf16 else nullcontext():
            value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    step()
    return step
