"""Cue tokens: what the classifier believes, one token an abnormality, behind the visual tokens.

    token_a = name_a + W [2 p_a - 1, logit_a / 4, 2 q_a1 - 1, ..., 2 q_aV - 1]

p_a is the probability that the abnormality is present, q_av that it has value v (right, upper,
small, ...) if it is. Cues enter at the input only, and text sees them as it sees visual tokens.
What is unknown adds nothing, so a token of unknown evidence is the abnormality's name alone.

Evidence is kept as logits, and NaN where it is unknown; cues of one kind alone know nothing of the
other.

B batch, A abnormalities, V values, E width.
"""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor, nn

_FIRST_STD: Final = 0.5  # about as large as projected visual tokens
_LOGIT_SCALE: Final = 4.0
_LARGEST: Final = 1.5  # of a scaled logit; beyond it the classifier is sure anyway


class CueTokens(nn.Module):
    """Evidence (B, A, 1 + V) as logits, presence first -> tokens (B, A, E)."""

    cuts: Tensor
    ignored: Tensor

    def __init__(
        self,
        num_classes: int,
        num_values: int,
        width: int,
        kind: Literal["presence", "attributes", "both"] = "both",
    ) -> None:
        super().__init__()
        ignored = [kind == "attributes", *[kind == "presence"] * num_values]
        self.register_buffer("ignored", torch.tensor(ignored), persistent=False)
        self.names = nn.Embedding(num_classes, width)
        self.directions = nn.Linear(2 + num_values, width, bias=False)
        # Where the classifier claims an abnormality: a cue says how far beyond it the evidence is.
        self.register_buffer("cuts", torch.zeros(num_classes))
        nn.init.normal_(self.names.weight, std=_FIRST_STD)
        nn.init.normal_(self.directions.weight, std=_FIRST_STD)

    def set_thresholds(self, thresholds: Tensor) -> None:
        """Take probabilities (A,) from which the classifier claims an abnormality."""
        self.cuts.copy_(torch.logit(thresholds, eps=1e-4))

    def forward(self, evidence: Tensor) -> Tensor:
        """Embed what is known."""
        evidence = evidence.masked_fill(self.ignored, torch.nan)
        presence = evidence[..., :1] - self.cuts[:, None]
        scaled = (presence / _LOGIT_SCALE).clamp(-_LARGEST, _LARGEST)
        sure = 2 * torch.sigmoid(torch.cat([presence, evidence[..., 1:]], dim=-1)) - 1
        features = torch.cat([sure[..., :1], scaled, sure[..., 1:]], dim=-1)
        known = torch.nan_to_num(features, nan=0.0).to(self.directions.weight.dtype)
        tokens: Tensor = self.names.weight + self.directions(known)
        return tokens


def shifted(evidence: Tensor, shift: float) -> Tensor:
    """Add to every presence: above 0, reports claim more; below, less."""
    added = torch.zeros_like(evidence)
    added[..., 0] = shift
    return evidence + added
