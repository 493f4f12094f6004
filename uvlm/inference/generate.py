"""Writing reports: read the visual block once, then one token at a time from the KV cache.

All rows of a batch have the same visual block and the same number of tokens at any moment, so no
padding and no mask is needed; a row that has written <eos> idles until the last one has.

B batch, K visual tokens, C_i channels of stage i, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from uvlm.model.uvlm import UVLM


@torch.no_grad()
def generate(
    model: UVLM,
    visual: Sequence[Tensor],
    max_tokens: int,
    bos: int,
    eos: int,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """Write one report per row.

    Args:
        model: put into evaluation mode meanwhile.
        visual: aligned tokens of every stage, (B, K, C_i), shallow to deep.
        max_tokens: a report without <eos> stops after so many tokens.
        bos: id that starts a report.
        eos: id that ends it.
        temperature: 0 takes the likeliest token; above, tokens are drawn from softmax(logits / t).
        generator: makes the draws reproducible.

    Returns:
        Token ids of each report, without <bos> and <eos>.
    """
    was_training = model.training
    model.eval()
    try:
        cache = model.prefill(visual, capacity=max_tokens)
        tokens = torch.full((len(visual[0]),), bos, device=visual[0].device)
        ended = torch.zeros_like(tokens, dtype=torch.bool)
        written = []
        for _ in range(max_tokens):
            tokens = pick(model.next_logits(tokens, cache), temperature, generator)
            written.append(tokens)
            ended |= tokens == eos
            if bool(ended.all()):
                break
    finally:
        model.train(was_training)
    return [_until(row, eos) for row in torch.stack(written, dim=1).tolist()]


def pick(logits: Tensor, temperature: float, generator: torch.Generator | None = None) -> Tensor:
    """Choose one token (B,) per row of logits (B, V)."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.float() / temperature, dim=-1)
    return torch.multinomial(probabilities, num_samples=1, generator=generator)[:, 0]


def _until(tokens: list[int], eos: int) -> list[int]:
    return tokens[: tokens.index(eos)] if eos in tokens else tokens
