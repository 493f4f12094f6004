"""Abnormality classifier (paper eq. 2): learned queries look at the deepest stage.

    probabilities = sigmoid(Linear(Flatten(CrossAttn(Q, f_N))))

Additions to eq. 2, listed in docs/faithfulness.md: layer norms before and after the attention, and
learned positions on its keys, so that a query can look at one side of the body; as an option, a
second head for side, lobe and size (attribute_head.py).

B batch, C channels, (D, H, W) grid of f_N, K = D * H * W tokens, M queries, A abnormalities, V
values of the second head.
The embedding of a case is its M * C pooled numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from uvlm.model.attribute_head import AttributeHead


class Classifier(nn.Module):
    """Pool f_N by learned queries, then apply one linear layer; returns logits."""

    def __init__(
        self,
        channels: int,
        num_classes: int,
        num_queries: int,
        heads: int,
        grid_tokens: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.positions = nn.Parameter(torch.empty(grid_tokens, channels))
        self.queries = nn.Parameter(torch.empty(num_queries, channels))
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.pooled_norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(num_queries * channels, num_classes)
        nn.init.normal_(self.positions, std=0.02)
        nn.init.xavier_uniform_(self.queries)
        self.attributes: AttributeHead | None = None

    def forward(self, deepest: Tensor) -> Tensor:
        """Classify f_N, given as (B, C, D, H, W) or as tokens (B, K, C): logits (B, A)."""
        logits: Tensor = self.linear(self.dropout(self.embed(deepest)))
        return logits

    def evidence(self, deepest: Tensor) -> Tensor:
        """Return logits (B, A, 1 + V): presence, and each value if present."""
        presence: Tensor = self(deepest)[..., None]
        if self.attributes is None:
            return presence
        return torch.cat([presence, self.attributes(_tokens(deepest))], dim=-1)

    def embed(self, deepest: Tensor) -> Tensor:
        """Pool f_N by the queries into all that the linear layer sees of a case, (B, M * C)."""
        values = self.norm(_tokens(deepest))  # (B, K, C)
        queries = self.queries.expand(len(values), -1, -1)
        keys = values + self.positions  # queries match on place; what they pool stays place-free
        pooled, _ = self.attention(queries, keys, values, need_weights=False)  # (B, M, C)
        embedding: Tensor = self.pooled_norm(pooled).flatten(1)
        return embedding


def _tokens(deepest: Tensor) -> Tensor:
    """Return f_N as tokens (B, K, C)."""
    return deepest.flatten(2).transpose(1, 2) if deepest.dim() == 5 else deepest
