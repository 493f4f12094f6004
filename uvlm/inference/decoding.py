"""How words are chosen, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

from uvlm.config import GenerateConfig

Ended = Literal["eos", "limit", "loop"]


@dataclass(frozen=True)
class Decoding:
    """How to write one report; the defaults take the likeliest token until <eos>.

    Args:
        max_tokens: a report without <eos> stops after so many tokens.
        min_tokens: <eos> cannot come before so many.
        temperature: 0 takes the likeliest token; above, tokens are drawn from softmax(logits / t).
        top_p: draw from the fewest likeliest tokens that together have this probability.
        repetition_penalty: divides the positive logits of tokens already written, multiplies the
            negative ones; 1 changes nothing.
        no_repeat_ngram: no n tokens in a row are written twice; 0 allows it.
        num_beams: how many unfinished reports compete; 1 is greedy.
        length_penalty: beams compete by log probability / tokens ** length_penalty.
        stop_after_repeats: a report that ends in so many copies of the same tokens stops there, and
            keeps the first copy; 0 lets it run.
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

    @classmethod
    def of(cls, config: GenerateConfig, limit: int) -> Self:
        """Decode as the section `generate` says, at most as long as the reports trained on."""
        values = config.model_dump(exclude={"batch_size"})
        return cls(**values | {"max_tokens": min(config.max_tokens or limit, limit)})


class Written(NamedTuple):
    """Token ids of a report, without <bos> and <eos>, and why it ended."""

    ids: list[int]
    ended: Ended


def repeated_tail(ids: Sequence[int], times: int) -> int:
    """Count the tokens after the first of `times` equal pieces at the end; 0 if it does not loop.

    The shortest such piece counts: `a b b b` ends in three `b`, two of which are too many.
    """
    for size in range(1, len(ids) // times + 1):
        if ids[-1] == ids[-1 - size]:
            tail = list(ids[-size * times :])
            if tail == tail[:size] * times:
                return size * (times - 1)
    return 0
