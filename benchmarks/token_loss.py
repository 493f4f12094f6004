"""Cross-entropy of report tokens: in chunks against the whole table of logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import cpu_seconds_of_both, peak_growth_mb
from benchmarks.ratios import Ratio
from benchmarks.sizes import Size
from uvlm.train.losses.token_loss import token_cross_entropy

Inputs = tuple[Tensor, Tensor, Tensor]


def draw(num_tokens: int, vocabulary: int, width: int) -> Inputs:
    """Hidden states, output weights, targets."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(num_tokens, width), torch.randn(vocabulary, width) * width**-0.5
    return (
        hidden.requires_grad_(),
        weight.requires_grad_(),
        torch.randint(vocabulary, (num_tokens,)),
    )


def with_a_table(inputs: Inputs) -> None:
    """Forward and backward through all logits."""
    hidden, weight, targets = inputs
    F.cross_entropy(F.linear(hidden, weight), targets).backward()


def in_chunks(inputs: Inputs) -> None:
    """Forward and backward as stage 3 does."""
    token_cross_entropy(*inputs).backward()


def measure(size: Size) -> list[Ratio]:
    """Measure all rows of this family."""
    arguments = (size.loss_tokens, size.vocabulary, size.params.decoder.width)
    inputs = draw(*arguments)
    seconds = cpu_seconds_of_both(
        lambda: with_a_table(inputs), lambda: in_chunks(inputs), size.repeats
    )
    memory = [peak_growth_mb(f, *arguments, prepare=draw) for f in (with_a_table, in_chunks)]
    what = f"cross-entropy, {size.loss_tokens:,} tokens, {size.vocabulary:,} words, fp32"
    return [
        Ratio(f"{what}: forward and backward", "all logits, F.cross_entropy", *seconds, "s", 1.0,
              f"medians of {size.repeats} in turn."),
        Ratio(f"{what}: memory", "all logits, F.cross_entropy", memory[0], memory[1], "MB", 5.0,
              "growth of the peak resident set over the inputs, in a process of its own; "
              "both hold the gradients of inputs and weights."),
    ]  # fmt: skip
