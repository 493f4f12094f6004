"""From logits to the next token: what is forbidden, what is less likely, which one is taken.

B rows, V vocabulary, t tokens written so far.
"""

from __future__ import annotations

import torch
from torch import Tensor

from uvlm.inference.decoding import Decoding

_MOST_LIKELY = 1024  # nearly always hold top_p; sorting 150,000 logits is slow


def adjust(logits: Tensor, written: Tensor, decoding: Decoding, eos: int) -> Tensor:
    """Apply penalties and limits to logits (B, V), given the tokens written so far (B, t)."""
    if decoding.repetition_penalty != 1:
        logits = penalise_repetition(logits, written, decoding.repetition_penalty)
    if decoding.no_repeat_ngram:
        logits = forbid_ngrams(logits, written, decoding.no_repeat_ngram)
    if written.shape[1] < decoding.min_tokens:
        logits = logits.index_fill(1, torch.tensor([eos], device=logits.device), -torch.inf)
    return logits


def penalise_repetition(logits: Tensor, written: Tensor, penalty: float) -> Tensor:
    """Make tokens that were written less likely."""
    found = logits.gather(1, written)
    return logits.scatter(1, written, torch.where(found > 0, found / penalty, found * penalty))


def forbid_ngrams(logits: Tensor, written: Tensor, size: int) -> Tensor:
    """Forbid every token that would complete `size` tokens in a row written before."""
    if written.shape[1] < size:
        return logits
    before = written.unfold(1, size, 1)  # (B, t - size + 1, size)
    tail = written[:, written.shape[1] - size + 1 :]
    follows = (before[..., :-1] == tail[:, None]).all(dim=-1)
    counts = torch.zeros_like(logits).scatter_add_(1, before[..., -1], follows.to(logits.dtype))
    return logits.masked_fill(counts > 0, -torch.inf)


def pick(
    logits: Tensor,
    temperature: float,
    generator: torch.Generator | None = None,
    top_p: float = 1.0,
) -> Tensor:
    """Choose one token (B,) per row of logits (B, V)."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.float() / temperature, dim=-1)
    if top_p < 1:
        probabilities = nucleus(probabilities, top_p)
    return torch.multinomial(probabilities, num_samples=1, generator=generator)[:, 0]


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Zero all but the fewest likeliest tokens whose probabilities (B, V) reach `top_p`."""
    size = probabilities.shape[1]
    likely, tokens = probabilities.topk(min(_MOST_LIKELY, size), dim=-1)
    if bool((likely.sum(dim=-1) < top_p).any()):
        likely, tokens = probabilities.sort(dim=-1, descending=True)
    before = likely.cumsum(dim=-1) - likely  # of all likelier tokens
    kept = likely.masked_fill(before >= top_p, 0.0)
    return torch.zeros_like(probabilities).scatter_(1, tokens, kept)
