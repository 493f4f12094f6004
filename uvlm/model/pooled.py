"""Pooled tokens: averages of f_N as further visual tokens, in front of cue tokens.

    token_p = name_p + W (x_p - mean_p) / std_p

`queries` are what the classifier's queries pool (eq. 2), `regions` averages over halves of the
volume as in attribute_head.py, so that the decoder need not learn where right and left are.
Means and deviations are those of training cases. They enter at the input only.

B batch, C channels of f_N, K_N its tokens, M queries, R regions, P pooled tokens, E width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn

from uvlm.model.align import Deeper, deepest_tokens
from uvlm.model.attribute_head import NUM_REGIONS, region_averages
from uvlm.model.classifier import Classifier

Pooling = Literal["none", "queries", "regions", "both"]
_NAME_STD: Final = 0.5
_SMALLEST_STD: Final = 1e-6


def num_pooled(pooling: Pooling, num_queries: int) -> int:
    """Count the pooled tokens P."""
    queries = num_queries if pooling in ("queries", "both") else 0
    return queries + (NUM_REGIONS if pooling in ("regions", "both") else 0)


@dataclass(frozen=True, eq=False)
class Pooler:
    """Pools f_N, found in aligned tokens; moves the classifier to their device.

    Args:
        pooling: what is pooled: queries come first, then regions.
        classifier: of stage 2.
        grids: of the features of every stage, (D, H, W).
        reference_stage: whose grid aligned tokens have.
        deeper: how deeper stages were filled up to it.
    """

    pooling: Pooling
    classifier: Classifier
    grids: Sequence[Sequence[int]]
    reference_stage: int
    deeper: Deeper

    @torch.no_grad()
    def __call__(self, stages: Sequence[Tensor]) -> Tensor:
        """Pool aligned tokens of every stage, (B, K, C_i), into (B, P, C)."""
        deepest = deepest_tokens(stages[-1], self.grids, self.reference_stage, self.deeper)
        found = []
        if self.pooling in ("queries", "both"):
            pooled = self.classifier.to(deepest.device).embed(deepest)
            found.append(pooled.unflatten(1, (-1, deepest.shape[-1])))
        if self.pooling in ("regions", "both"):
            averages = region_averages(self.grids[-1]).to(deepest)
            found.append(torch.einsum("rk,bkc->brc", averages, deepest))
        return torch.cat(found, dim=1)


class PooledTokens(nn.Module):
    """Pooled features (B, P, C) -> tokens (B, P, E)."""

    mean: Tensor
    std: Tensor

    def __init__(self, count: int, channels: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(count, channels))
        self.register_buffer("std", torch.ones(count, channels))
        self.names = nn.Embedding(count, width)
        self.linear = nn.Linear(channels, width, bias=False)
        nn.init.normal_(self.names.weight, std=_NAME_STD)

    def standardise(self, pooled: Tensor) -> None:
        """Take mean and deviation from training cases, (N, P, C); what is constant becomes 0."""
        self.mean.copy_(pooled.mean(dim=0))
        std = pooled.std(dim=0, correction=0)
        self.std.copy_(std.where(std > _SMALLEST_STD, torch.full_like(std, torch.inf)))

    def forward(self, pooled: Tensor) -> Tensor:
        """Embed the pooled features."""
        tokens: Tensor = self.names.weight + self.linear((pooled - self.mean) / self.std)
        return tokens
