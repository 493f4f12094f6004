"""Where an abnormality is and how large it is: a second head on the deepest stage.

Each abnormality has a query of its own. It reads voxels together with their learned positions, so
that what it pools says where the abnormality lies; the queries of eq. 2 pool what is placeless.

B batch, K tokens of f_N, C channels, A abnormalities, V values (right, left, upper, ...).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AttributeHead(nn.Module):
    """Logit of every value for every abnormality, supposing that it is present."""

    def __init__(
        self, channels: int, num_classes: int, num_values: int, heads: int, grid_tokens: int
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.positions = nn.Parameter(torch.empty(grid_tokens, channels))
        self.queries = nn.Parameter(torch.empty(num_classes, channels))
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.pooled_norm = nn.LayerNorm(channels)
        self.weight = nn.Parameter(torch.empty(num_classes, channels, num_values))
        self.bias = nn.Parameter(torch.zeros(num_classes, num_values))
        nn.init.normal_(self.positions, std=0.02)
        nn.init.xavier_uniform_(self.queries)
        nn.init.normal_(self.weight, std=0.05)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, K, C) to logits (B, A, V)."""
        placed = self.norm(tokens) + self.positions
        queries = self.queries.expand(len(placed), -1, -1)
        pooled, _ = self.attention(queries, placed, placed, need_weights=False)  # (B, A, C)
        logits: Tensor = torch.einsum("bac,acv->bav", self.pooled_norm(pooled), self.weight)
        return logits + self.bias
