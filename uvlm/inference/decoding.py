"""How the next token is chosen: which are forbidden, which are made less likely, which is taken.

B rows, V vocabulary, t tokens written so far.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor

from uvlm.config import GenerateConfig

Ended = Literal["eos", "limit", "loop", "held"]
_MOST_LIKELY = 1024  # these nearly always hold top_p, and sorting 150,000 logits is slow


@dataclass(frozen=True)
class Decoding:
    """How to write one report; the defaults take the likeliest token until <eos>.

    Args:
        max_tokens: a report without <eos> stops after this many tokens.
        min_tokens: <eos> cannot come before this many.
        temperature: 0 takes the likeliest token; above, tokens are drawn from softmax(logits / t).
        top_p: draw from the fewest likeliest tokens that together have this probability.
        repetition_penalty: divides the positive logits of tokens already written, multiplies the
            negative ones; 1 changes nothing.
        no_repeat_ngram: no n tokens in a row are written twice; 0 allows it.
        num_beams: how many unfinished reports compete; 1 is greedy.
        length_penalty: beams compete by log probability / tokens ** length_penalty.
        stop_after_repeats: a report that ends in this many copies of the same tokens stops there
            and keeps the first copy; 0 lets it run.
        cue_guidance: how much further than with cues alone, counted from the logits without cues.
    """

    max_tokens: int
    min_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    stop_after_repeats: int = 0
    cue_guidance: float = 0.0

    @classmethod
    def of(cls, config: GenerateConfig, limit: int) -> Self:
        """Decode as the section `generate` says, at most as long as the training reports."""
        values = config.model_dump(include=set(cls.__dataclass_fields__))
        return cls(**values | {"max_tokens": min(config.max_tokens or limit, limit)})


class Written(NamedTuple):
    """Token ids of a report, without <bos> and <eos>, and why it ended.

    `held` is one whose impression was written again; see held.py.
    """

    ids: list[int]
    ended: Ended


class Begun(NamedTuple):
    """The tokens that a report begins with, and those that must not follow them."""

    ids: Sequence[int]
    forbidden: Collection[int]


def repeated_tail(ids: Sequence[int], times: int) -> int:
    """Count the tokens after the first of `times` equal pieces at the end; 0 without such a loop.

    The shortest piece counts: `a b b b` ends in three `b`, two of which are too many. With 0
    `times`, no loop is looked for.
    """
    longest = len(ids) // times if times else 0
    for size in range(1, longest + 1):
        if ids[-1] == ids[-1 - size]:  # cheap, and nearly always false
            tail = list(ids[-size * times :])
            if tail == tail[:size] * times:
                return size * (times - 1)
    return 0


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
    """Make tokens that were already written less likely."""
    found = logits.gather(1, written)
    return logits.scatter(1, written, torch.where(found > 0, found / penalty, found * penalty))


def forbid_ngrams(logits: Tensor, written: Tensor, size: int) -> Tensor:
    """Forbid every token that would complete `size` tokens in a row written before."""
    if written.shape[1] < size:
        return logits
    before = written.unfold(1, size, 1)  # (B, t - size + 1, size), every n-gram so far
    tail = written[:, written.shape[1] - size + 1 :]  # (B, size - 1), which the next token extends
    follows = (before[..., :-1] == tail[:, None]).all(dim=-1)
    # Summed, not assigned: a token may end several n-grams, of which only some match.
    counts = torch.zeros_like(logits).scatter_add_(1, before[..., -1], follows.to(logits.dtype))
    return logits.masked_fill(counts > 0, -torch.inf)


def pick(
    logits: Tensor, temperature: float, generator: torch.Generator | None = None, top_p: float = 1.0
) -> Tensor:
    """Choose one token (B,) per row of logits (B, V)."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.float() / temperature, dim=-1)
    if top_p < 1:
        probabilities = nucleus(probabilities, top_p)
    return torch.multinomial(probabilities, num_samples=1, generator=generator)[:, 0]


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Keep the fewest likeliest tokens whose probabilities (B, V) reach `top_p`; zero the rest."""
    size = probabilities.shape[1]
    likely, tokens = probabilities.topk(min(_MOST_LIKELY, size), dim=-1)
    if bool((likely.sum(dim=-1) < top_p).any()):
        likely, tokens = probabilities.sort(dim=-1, descending=True)
    before = likely.cumsum(dim=-1) - likely  # of all likelier tokens
    kept = likely.masked_fill(before >= top_p, 0.0)
    return torch.zeros_like(probabilities).scatter_(1, tokens, kept)
