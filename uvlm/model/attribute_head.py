"""Side, lobe and size of abnormalities, read from averages of f_N over regions of the body.

A region is a half of the volume from left to right, whole or its upper, lower or middle half. Of
each region every channel's average is standardised over the training cases, and one linear layer
per abnormality reads all of them. The layer is fitted in closed form (ridge regression), so that
nothing that stage 2 trains by gradients depends on it:

    w = X^T (X X^T + STRENGTH n 1)^-1 (y - mean(y)),   X (n, F) centred, y = 1 or -1

B batch, N cases, K tokens of f_N, C channels, (D, H, W) grid, R regions, F = R * C features,
A abnormalities, V values (right, left, upper, ...).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

NUM_REGIONS: Final = 8
STRENGTH: Final = 1.0  # of the ridge, per case, of standardised features
FEWEST: Final = 4  # cases from which a value is learned
_SUREST: Final = 0.98


def region_averages(grid: Sequence[int]) -> Tensor:
    """Weights (R, K) that average tokens over each region; R is 2 sides times 4 heights."""
    depth, height, width = grid
    heights = [(0, depth), (0, depth // 2), (depth // 2, depth), (depth // 4, depth - depth // 4)]
    middle = width // 2
    masks = []
    for bottom, top in heights:
        for start, end in ((0, middle), (min(width - middle, width - 1), width)):
            mask = torch.zeros(depth, height, width)
            # A grid of one slice or column has no halves: they are the whole.
            mask[bottom : max(top, bottom + 1), :, start : max(end, start + 1)] = 1
            masks.append(mask.flatten() / mask.sum())
    return torch.stack(masks)


class AttributeHead(nn.Module):
    """Logit of every value for every abnormality, supposing that it is present."""

    regions: Tensor
    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(
        self, channels: int, num_classes: int, num_values: int, grid: Sequence[int]
    ) -> None:
        super().__init__()
        self.register_buffer("regions", region_averages(grid), persistent=False)
        num_features = len(self.regions) * channels
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("std", torch.ones(num_features))
        self.register_buffer("weight", torch.zeros(num_classes, num_values, num_features))
        self.register_buffer("bias", torch.zeros(num_classes, num_values))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, K, C) to logits (B, A, V); 0 before the head is fitted."""
        x = (self.pooled(tokens) - self.mean) / self.std
        scores = torch.einsum("bf,avf->bav", x, self.weight) + self.bias  # about -1 to 1
        return torch.logit(((1 + scores) / 2).clamp(1 - _SUREST, _SUREST))

    def pooled(self, tokens: Tensor) -> Tensor:
        """Average tokens (B, K, C) over the regions: (B, F)."""
        return torch.einsum("rk,bkc->brc", self.regions, tokens.to(self.regions.dtype)).flatten(1)

    @torch.no_grad()
    def fit(self, pooled: Tensor, said: Tensor) -> None:
        """Learn from cases: features (N, F), and values (N, A, V), 1 said, 0 not, -1 unknown."""
        self.mean.copy_(pooled.mean(dim=0))
        spread = pooled.std(dim=0, correction=0)
        self.std.copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))
        x = ((pooled - self.mean) / self.std).double()
        for a in range(said.shape[1]):
            known = said[:, a] >= 0  # (N, V); values of one kind are known together
            for v in range(said.shape[2]):
                rows = known[:, v]
                if int(rows.sum()) >= FEWEST:
                    weight, bias = _ridge(x[rows], 2 * said[rows, a, v].double() - 1)
                    self.weight[a, v].copy_(weight)
                    self.bias[a, v] = bias


def _ridge(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Fit y (n,) by x (n, F): weights (F,) and a constant, through the smaller of two systems."""
    count, num_features = x.shape
    middle, level = x.mean(dim=0), y.mean()
    x, y = x - middle, y - level
    size = min(count, num_features)
    ridge = STRENGTH * count * torch.eye(size, dtype=x.dtype, device=x.device)
    if count <= num_features:
        weight = x.T @ torch.linalg.solve(x @ x.T + ridge, y)
    else:
        weight = torch.linalg.solve(x.T @ x + ridge, x.T @ y)
    return weight, level - middle @ weight
