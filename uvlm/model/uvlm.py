"""U-VLM: aligned visual tokens and a report, through one language decoder (paper eq. 3-5).

    position   0      1 ... K   K+1    K+2    K+3 ...
    token      start  visual    end    <bos>  report, <eos>
    attention  |-- sees itself --|     |-- causal, sees all visual --|

The input at visual positions is the projected reference stage (or zeros); the plan adds projected
stages at language layers, each times its gate where gates are learned. As options, pooled tokens
(pooled.py) and cue tokens (cues.py) stand between the visual tokens and the end; then `visual` has
pooled features, and evidence, behind the tokens of the stages. Text may read cues once more behind
the last layer.

B batch, K visual tokens, C_i channels of stage i, E width, T text tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uvlm.model.cache import Cache
from uvlm.model.cues import CueReadout, CueTokens
from uvlm.model.decoder import LanguageDecoder
from uvlm.model.inject import Plan
from uvlm.model.pooled import PooledTokens
from uvlm.model.projection import Projection
from uvlm.model.qwen import QwenDecoder


@dataclass(frozen=True)
class SpecialIds:
    """Vocabulary ids of the tokens that frame images and reports."""

    pad: int
    start_of_image: int
    end_of_image: int
    bos: int
    eos: int


Decoder = LanguageDecoder | QwenDecoder


class UVLM(nn.Module):
    """Projections, injection plan and language decoder; the encoder stays outside.

    Args:
        decoder: the language decoder.
        projections: one per encoder stage in use, by stage from 1.
        plan: language layer -> encoder stage, both from 1; empty without injection.
        input_stage: stage whose tokens are the input at visual positions; None for zeros.
        specials: ids of the framing tokens.
        gated: multiply each injection by a learned number that starts at 1, which is eq. 5 itself.
    """

    def __init__(
        self,
        decoder: Decoder,
        projections: Mapping[int, Projection],
        plan: Plan,
        input_stage: int | None,
        specials: SpecialIds,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.projections = nn.ModuleDict({str(stage): p for stage, p in projections.items()})
        gates = {str(layer): nn.Parameter(torch.ones(())) for layer in plan} if gated else {}
        self.gates = nn.ParameterDict(gates)
        self.plan = plan
        self.input_stage = input_stage
        self.specials = specials
        self.pooled: PooledTokens | None = None
        self.cues: CueTokens | None = None
        self.readout: CueReadout | None = None  # of cues, at text positions

    def forward(self, visual: Sequence[Tensor], token_ids: Tensor) -> Tensor:
        """Compute logits (B, T, V); position t predicts token t + 1.

        Args:
            visual: aligned tokens of every stage, (B, K, C_i), shallow to deep.
            token_ids: (B, T), <bos> first, padded to the right.
        """
        return self.decoder.logits(self.text_hidden(visual, token_ids))

    def target_hidden(self, visual: Sequence[Tensor], token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden states (N, E) and targets (N,) of all N report tokens and <eos>s (eq. 3).

        Args:
            visual: aligned tokens of every stage, (B, K, C_i), shallow to deep.
            token_ids: (B, T), <bos> report <eos>, padded to the right with <pad>.
        """
        inputs, targets = token_ids[:, :-1], token_ids[:, 1:]
        is_target = targets != self.specials.pad  # padding never reaches the wide output layer
        return self.text_hidden(visual, inputs)[is_target], targets[is_target]

    def text_hidden(self, visual: Sequence[Tensor], token_ids: Tensor) -> Tensor:
        """Return the hidden states (B, T, E) of text positions, ready for `decoder.logits`."""
        block, injections = self._visual_block(visual)
        sequence = torch.cat([block, self.decoder.embed(token_ids)], dim=1)
        hidden: Tensor = self.decoder(sequence, injections, num_visual=block.shape[1])
        return self._with_cues(hidden[:, block.shape[1] :], self._read_cues(visual))

    def prefill(self, visual: Sequence[Tensor], capacity: int) -> Cache:
        """Read the visual block into a new cache with room for `capacity` text tokens."""
        block, injections = self._visual_block(visual)
        cache = self.decoder.new_cache(block.shape[1] + capacity)
        self.decoder(block, injections, cache=cache)  # without a mask: the block sees itself
        cache.cues = self._read_cues(visual)
        return cache

    def next_logits(self, token_ids: Tensor, cache: Cache) -> Tensor:
        """Read `token_ids` (B,) into the cache; return logits (B, V) of the token after."""
        # A single new row may see all that is cached, so no mask is needed here either.
        hidden = self.decoder(self.decoder.embed(token_ids[:, None]), {}, cache=cache)
        return self.decoder.logits(self._with_cues(hidden, cache.cues)[:, -1])

    def _read_cues(self, visual: Sequence[Tensor]) -> Tensor | None:
        """Embed the cues that text reads behind the last layer; None if it reads none."""
        if self.readout is None or self.cues is None:
            return None
        tokens: Tensor = self.cues(visual[-1])
        return tokens

    def _with_cues(self, hidden: Tensor, tokens: Tensor | None) -> Tensor:
        """Add what text positions (B, T, E) read from cue tokens, if they do."""
        if self.readout is None or tokens is None:
            return hidden
        read: Tensor = self.readout(hidden, tokens)
        return read

    def _visual_block(self, visual: Sequence[Tensor]) -> tuple[Tensor, dict[int, Tensor]]:
        """Embed the visual block (B, K + 2, E) and collect what each layer is given."""
        projected = {
            int(stage): projection(visual[int(stage) - 1])
            for stage, projection in self.projections.items()
        }
        # (B, K, E) each; a stage is projected once however many layers it feeds
        injections = {layer: projected[stage] for layer, stage in self.plan.items()}
        for layer, gate in self.gates.items():
            injections[int(layer)] = gate * injections[int(layer)]
        if self.input_stage is None:
            tokens = torch.zeros_like(next(iter(projected.values())))
        else:
            tokens = projected[self.input_stage]
        framing = [self.specials.start_of_image, self.specials.end_of_image]
        start, end = self.decoder.embed(torch.tensor(framing, device=tokens.device))
        batch = len(tokens)
        further = [module for module in (self.pooled, self.cues) if module is not None]
        # Behind the visual tokens, so that nothing moves.
        more = [m(x) for m, x in zip(further, visual[len(visual) - len(further) :], strict=True)]
        parts = [start.expand(batch, 1, -1), tokens, *more, end.expand(batch, 1, -1)]
        return torch.cat(parts, dim=1), injections
