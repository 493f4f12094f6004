"""Writing reports: read the visual block once, then one token at a time from the KV cache.

All rows of a batch have the same visual block and the same number of tokens at any moment, so no
padding and no mask is needed; a row that has ended idles until the last one has.

B batch, K visual tokens, C_i channels of stage i, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from uvlm.inference.beam import beam_search
from uvlm.inference.decoding import Decoding, Written, adjust, pick, repeated_tail
from uvlm.model.uvlm import UVLM


def generate(
    model: UVLM,
    visual: Sequence[Tensor],
    max_tokens: int,
    bos: int,
    eos: int,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """Write one report per row, greedily or drawn; see `write_reports`.

    Returns:
        Token ids of each report, without <bos> and <eos>.
    """
    decoding = Decoding(max_tokens, temperature=temperature)
    return [report.ids for report in write_reports(model, visual, decoding, bos, eos, generator)]


@torch.no_grad()
def write_reports(
    model: UVLM,
    visual: Sequence[Tensor],
    decoding: Decoding,
    bos: int,
    eos: int,
    generator: torch.Generator | None = None,
) -> list[Written]:
    """Write one report per row.

    Args:
        model: put into evaluation mode meanwhile.
        visual: aligned tokens of every stage, (B, K, C_i), shallow to deep.
        decoding: how words are chosen.
        bos: id that starts a report.
        eos: id that ends it.
        generator: makes draws reproducible.
    """
    with _evaluating(model):
        if decoding.num_beams > 1:
            return beam_search(model, visual, decoding, bos, eos)
        return _one_by_one(model, visual, decoding, bos, eos, generator)


def _one_by_one(
    model: UVLM,
    visual: Sequence[Tensor],
    decoding: Decoding,
    bos: int,
    eos: int,
    generator: torch.Generator | None,
) -> list[Written]:
    """Take or draw one token per row and step."""
    cache = model.prefill(visual, capacity=decoding.max_tokens)
    tokens = torch.full((len(visual[0]),), bos, device=visual[0].device)
    written = tokens.new_empty(len(tokens), decoding.max_tokens)
    rows = [_Row(eos, decoding.stop_after_repeats) for _ in range(len(tokens))]
    for step in range(decoding.max_tokens):
        logits = adjust(model.next_logits(tokens, cache), written[:, :step], decoding, eos)
        tokens = pick(logits, decoding.temperature, generator, decoding.top_p)
        written[:, step] = tokens
        for row, token in zip(rows, tokens.tolist(), strict=True):
            row.read(token)
        if all(row.ended for row in rows):
            break
    return [Written(row.ids, row.ended or "limit") for row in rows]


class _Row:
    """The report of one row, which listens until it has ended."""

    def __init__(self, eos: int, stop_after_repeats: int) -> None:
        self.eos = eos
        self.stop_after_repeats = stop_after_repeats
        self.ids: list[int] = []
        self.ended: Literal["eos", "loop"] | None = None

    def read(self, token: int) -> None:
        """Take the next token, unless the report has ended."""
        if self.ended:
            return
        if token == self.eos:
            self.ended = "eos"
            return
        self.ids.append(token)
        if self.stop_after_repeats:
            excess = repeated_tail(self.ids, self.stop_after_repeats)
            if excess:
                self.ended = "loop"
                del self.ids[-excess:]


@contextmanager
def _evaluating(model: UVLM) -> Iterator[None]:
    """Switch dropout off, and back to what it was."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
