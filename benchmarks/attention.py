"""Attention under the hybrid mask, forward and backward, against a float mask and softmax."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.measure import cpu_seconds_of_both
from benchmarks.ratios import Ratio
from benchmarks.released import attention_by_scores, float_mask
from benchmarks.sizes import Size
from uvlm.model.attention import hybrid_attention

BATCH = 2


def measure(size: Size) -> list[Ratio]:
    """Measure all rows of this family."""
    decoder = size.params.decoder
    num_visual = size.visual()[0].shape[1] + 2
    length = num_visual + size.tokens
    shape = (3, BATCH, length, decoder.heads, decoder.width // decoder.heads)
    queries, keys, values = (x.transpose(1, 2).requires_grad_() for x in torch.randn(shape))
    mask = float_mask(num_visual, length)

    def theirs() -> None:
        attention_by_scores(queries, keys, values, mask).sum().backward()

    def ours() -> None:
        hybrid_attention(queries, keys, values, num_visual).sum().backward()

    repeats = 3 * size.repeats
    seconds = cpu_seconds_of_both(theirs, ours, repeats)
    saved_theirs = saved(lambda: attention_by_scores(queries, keys, values, mask))
    saved_ours = saved(lambda: hybrid_attention(queries, keys, values, num_visual))
    memory = [sum(x.nbytes for x in tensors) / 2**20 for tensors in (saved_theirs, saved_ours)]
    maps = sum(x.shape[-2:] == (length, length) for x in saved_ours)
    what = f"attention, {num_visual - 2} + {size.tokens} tokens, batch {BATCH}, fp32"
    return [
        Ratio(f"{what}: forward and backward", "float mask, softmax over scores",
              1e3 * seconds[0], 1e3 * seconds[1], "ms", 3.0, f"medians of {repeats} in turn."),
        Ratio(f"{what}: kept for backward", "float mask, softmax over scores",
              memory[0], memory[1], "MB", 1.0,
              f"tensors that autograd saves; {maps} of ours are {length} x {length}."),
    ]  # fmt: skip


def saved(attend: Callable[[], Tensor]) -> list[Tensor]:
    """List what autograd keeps for the backward pass, each piece of memory once."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        attend()
    return list(kept.values())
