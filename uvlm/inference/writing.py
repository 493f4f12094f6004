"""Writing reports: read the visual block once, then one token at a time from the KV cache.

All rows of a batch have a visual block of the same size and the same number of tokens at any
moment, so neither padding nor a mask is needed; a row that has ended idles until the last one has.

With guidance, each row is read twice, with its cues and without, and what cues change in the logits
is enlarged: that is most where a word decides.

B batch, K visual tokens, C_i channels of stage i, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from uvlm.inference.beam import beam_search
from uvlm.inference.decoding import Begun, Decoding, Written, adjust, pick, repeated_tail
from uvlm.model.uvlm import UVLM


@torch.no_grad()
def write_reports(
    model: UVLM,
    visual: Sequence[Tensor],
    decoding: Decoding,
    generator: torch.Generator | None = None,
    begun: Sequence[Begun] | None = None,
) -> list[Written]:
    """Write one report per row.

    Args:
        model: in evaluation mode while it writes; its `specials` start and end a report.
        visual: aligned tokens of every stage, (B, K, C_i), shallow to deep.
        decoding: how tokens are chosen.
        generator: makes draws reproducible.
        begun: how each report begins; it is written on token by token, without beams.
    """
    was_training = model.training
    model.eval()
    try:
        if decoding.num_beams > 1 and begun is None:
            return beam_search(model, visual, decoding)
        return _one_by_one(model, visual, decoding, generator, begun)
    finally:
        model.train(was_training)


def _one_by_one(
    model: UVLM,
    visual: Sequence[Tensor],
    decoding: Decoding,
    generator: torch.Generator | None,
    begun: Sequence[Begun] | None,
) -> list[Written]:
    """Take or draw one token per row and step."""
    beginnings = None if begun is None else _Beginnings(begun, visual[0].device)
    bos, eos = model.specials.bos, model.specials.eos
    strength = decoding.cue_guidance if model.cues is not None else 0.0
    seen = with_and_without_cues(visual) if strength else visual
    cache = model.prefill(seen, capacity=decoding.max_tokens)
    tokens = torch.full((len(visual[0]),), bos, device=visual[0].device)
    written = tokens.new_empty(len(tokens), decoding.max_tokens)
    rows = [_Row(eos, decoding.stop_after_repeats) for _ in range(len(tokens))]
    for step in range(decoding.max_tokens):
        # Rows that have ended go on in the batch; what they write is ignored.
        if strength:
            logits = guided(model.next_logits(tokens.repeat(2), cache), strength)
        else:
            logits = model.next_logits(tokens, cache)
        logits = adjust(logits, written[:, :step], decoding, eos)
        if beginnings:
            logits = beginnings.forbid(logits, step)
        tokens = pick(logits, decoding.temperature, generator, decoding.top_p)
        if beginnings:
            tokens = beginnings.keep(tokens, step)
        written[:, step] = tokens
        for row, token in zip(rows, tokens.tolist(), strict=True):
            row.read(token)
        if all(row.ended for row in rows):
            break
    return [Written(row.ids, row.ended or "limit") for row in rows]


def with_and_without_cues(visual: Sequence[Tensor]) -> list[Tensor]:
    """Repeat a batch (B, ...) with unknown evidence: (2 B, ...)."""
    *tokens, evidence = visual
    unknown = torch.full_like(evidence, torch.nan)
    return [*(torch.cat([x, x]) for x in tokens), torch.cat([evidence, unknown])]


def guided(logits: Tensor, strength: float) -> Tensor:
    """Go beyond the logits with cues (B, V), away from those without, given both, (2 B, V)."""
    cued, plain = logits.chunk(2)
    return cued + strength * (cued - plain)


class _Beginnings:
    """What B reports begin with, and what must not follow."""

    def __init__(self, begun: Sequence[Begun], device: torch.device) -> None:
        self._begun = begun
        self._lengths = torch.tensor([len(each.ids) for each in begun], device=device)
        rows = [torch.tensor(each.ids, dtype=torch.long) for each in begun]
        self._ids = pad_sequence(rows, batch_first=True).to(device)  # (B, longest)

    def forbid(self, logits: Tensor, step: int) -> Tensor:
        """Forbid what must not follow in the rows whose beginning ends here, (B, V)."""
        ending = [
            (n, each.forbidden) for n, each in enumerate(self._begun) if len(each.ids) == step
        ]
        forbidden = [(row, token) for row, tokens in ending for token in tokens]
        if not forbidden:
            return logits
        rows, tokens = torch.tensor(forbidden, device=logits.device).T
        return logits.index_put((rows, tokens), logits.new_tensor(-torch.inf))

    def keep(self, tokens: Tensor, step: int) -> Tensor:
        """Put the tokens of the beginnings in place of those chosen (B,), where they go on."""
        if step >= self._ids.shape[1]:
            return tokens
        return torch.where(step < self._lengths, self._ids[:, step], tokens)


class _Row:
    """The report of one row; tokens after its end are ignored."""

    def __init__(self, eos: int, stop_after_repeats: int) -> None:
        self.eos = eos
        self.stop_after_repeats = stop_after_repeats
        self.ids: list[int] = []
        self.ended: Literal["eos", "loop"] | None = None

    def read(self, token: int) -> None:
        """Append the next token, unless the report has ended."""
        if self.ended:
            return
        if token == self.eos:
            self.ended = "eos"
            return
        self.ids.append(token)
        if excess := repeated_tail(self.ids, self.stop_after_repeats):
            self.ended = "loop"
            del self.ids[-excess:]
