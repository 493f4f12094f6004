"""Proj of eq. 5: aligned tokens of one encoder stage -> the width of the language decoder.

Eq. 4 pads before projecting, so a plain layer would turn padding into its bias. Here only the
stage's own tokens are projected and the padding is exactly zero.

B batch, K visual tokens, K_i <= K tokens of this stage, C channels, E width.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Projection(nn.Module):
    """Standardise per channel, project, pad with zeros.

    `linear` is one layer; `mlp` is norm, twice the width, GELU, the width, norm.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, channels: int, width: int, kind: Literal["linear", "mlp"], num_tokens: int
    ) -> None:
        """`num_tokens` is K_i, the number of leading tokens that are not padding."""
        super().__init__()
        self.num_tokens = num_tokens
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.net: nn.Module = nn.Linear(channels, width)
        if kind == "mlp":
            self.net = nn.Sequential(
                nn.LayerNorm(channels),
                nn.Linear(channels, 2 * width),
                nn.GELU(),
                nn.Linear(2 * width, width),
                nn.LayerNorm(width),
            )

    def set_standardisation(self, mean: Tensor, std: Tensor) -> None:
        """Set the channel means and deviations (C,) of training features."""
        self.mean.copy_(mean)
        # A channel that never varies keeps std 1: dividing by its tiny std would blow up noise.
        self.std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))

    def forward(self, tokens: Tensor) -> Tensor:
        """Project (B, K, C) -> (B, K, E), exactly zero from token K_i on."""
        own = tokens[:, : self.num_tokens]
        # Cast after the subtraction, which runs in the wider precision of tokens and mean.
        projected = self.net(((own - self.mean) / self.std).to(self.mean.dtype))
        return F.pad(projected, (0, 0, 0, tokens.shape[1] - own.shape[1]))
