"""Beam search: several unfinished reports per row compete by mean log probability.

The beams of a row are adjacent in the batch and share the cached image. A row is decided once no
unfinished report can overtake its best finished one, however it continues.

B rows, W beams, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from uvlm.inference.decoding import Decoding, Written, adjust, repeated_tail
from uvlm.model.uvlm import UVLM


def beam_search(model: UVLM, visual: Sequence[Tensor], decoding: Decoding) -> list[Written]:
    """Write one report per row of visual tokens (B, K, C_i)."""
    bos, eos = model.specials.bos, model.specials.eos
    width, limit = decoding.num_beams, decoding.max_tokens
    cache = model.prefill(visual, capacity=limit)
    num_visual = cache[0].length
    cache.repeat(width)
    rows = [_Row(decoding) for _ in range(len(visual[0]))]
    tokens = torch.full((len(rows) * width,), bos, device=visual[0].device)
    written = tokens.new_empty(len(tokens), 0)
    scores = torch.zeros(len(rows), width, device=tokens.device)
    scores[:, 1:] = -torch.inf  # all beams are still equal: only the first may branch
    first_beams = torch.arange(len(rows), device=tokens.device)[:, None] * width
    for _ in range(limit):
        logits = adjust(model.next_logits(tokens, cache).float(), written, decoding, eos)
        totals = scores.flatten()[:, None] + torch.log_softmax(logits, dim=-1)  # (B W, V)
        # Each of the W beams can end only once, so of 2 W candidates at least W go on.
        best, places = totals.view(len(rows), -1).topk(2 * width)
        parents, chosen = places // totals.shape[1], places % totals.shape[1]
        reports = written.view(len(rows), width, -1)
        survivors = [
            row.advance(reports[i], best[i].tolist(), parents[i].tolist(), chosen[i].tolist(), eos)
            for i, row in enumerate(rows)
        ]
        if all(row.is_decided for row in rows):
            break
        picked = torch.tensor(survivors, device=tokens.device)  # (B, W) places in best
        scores, tokens = best.gather(1, picked), chosen.gather(1, picked).flatten()
        origins = (parents.gather(1, picked) + first_beams).flatten()
        written = torch.cat([written[origins], tokens[:, None]], dim=1)
        for layer in cache:
            layer.reorder(origins, num_visual)
    unfinished = written.view(len(rows), width, -1)
    return [row.result(unfinished[i], scores[i].tolist()) for i, row in enumerate(rows)]


class _Row:
    """The best finished report of one row so far."""

    def __init__(self, decoding: Decoding) -> None:
        self.decoding = decoding
        self.best = -torch.inf
        self.ids: list[int] = []
        self.ended_by_eos = True
        self.is_decided = False

    def advance(
        self, reports: Tensor, scores: list[float], parents: list[int], tokens: list[int], eos: int
    ) -> list[int]:
        """Keep the best report that ends here; return the places of the W that go on."""
        length = reports.shape[1] + 1  # <eos> counts
        going_on = []
        for place, (score, parent, token) in enumerate(zip(scores, parents, tokens, strict=True)):
            if token != eos:
                going_on.append(place)
            elif not self.is_decided:
                self._offer(score, length, reports[parent], ended_by_eos=True)
        # Log probabilities only fall, so a beam can do no better than its score at full length.
        hopes = [self._score(scores[place], self.decoding.max_tokens) for place in going_on]
        self.is_decided = self.is_decided or self.best >= max(hopes, default=-torch.inf)
        return going_on[: self.decoding.num_beams]

    def result(self, reports: Tensor, scores: list[float]) -> Written:
        """Return the best report, which may be one that the limit cut."""
        if not self.is_decided:
            for report, score in zip(reports, scores, strict=True):
                self._offer(score, reports.shape[1], report, ended_by_eos=False)
        if excess := repeated_tail(self.ids, self.decoding.stop_after_repeats):
            return Written(self.ids[:-excess], "loop")
        return Written(self.ids, "eos" if self.ended_by_eos else "limit")

    def _offer(self, score: float, length: int, report: Tensor, ended_by_eos: bool) -> None:
        value = self._score(score, length)
        if value > self.best:
            self.best, self.ids, self.ended_by_eos = value, report.tolist(), ended_by_eos

    def _score(self, log_probability: float, length: int) -> float:
        return log_probability / float(length**self.decoding.length_penalty)
