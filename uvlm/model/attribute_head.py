"""Side, lobe and size of abnormalities, read from averages of f_N over regions of the body.

A region is a half of the volume from left to right, whole or its upper, lower or middle half, and
of each of these the whole, the front or the back: the middle lobe lies in front of the lower one.
Of each region every channel's average is standardised over the training cases, and one linear layer
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

NUM_REGIONS: Final = 8  # from top to bottom; with front and back, three times as many
STRENGTH: Final = 1.0  # of the ridge, per case, of standardised features
FEWEST: Final = 4  # cases from which a value is learned
_SUREST: Final = 0.98


def region_averages(grid: Sequence[int], *, front_and_back: bool = False) -> Tensor:
    """Weights (R, K) that average tokens over each region.

    R is 2 sides times 4 heights; with `front_and_back`, the front and the back of each come too.
    """
    depth, height, width = grid
    (low, high), (front, back), (right, left) = (_halves(size) for size in grid)
    middle = _span(depth // 4, depth - depth // 4)
    masks = []
    for ys in (slice(height), front, back) if front_and_back else (slice(height),):
        for zs in (slice(depth), low, high, middle):
            for xs in (right, left):
                mask = torch.zeros(depth, height, width)
                mask[zs, ys, xs] = 1
                masks.append(mask.flatten() / mask.sum())
    return torch.stack(masks)


def _halves(size: int) -> tuple[slice, slice]:
    """Cut an axis in two, without its middle column if it has one."""
    return _span(0, size // 2), _span(min(size - size // 2, size - 1), size)


def _span(start: int, end: int) -> slice:
    """Take at least one: an axis of one has no halves, they are the whole."""
    return slice(start, max(end, start + 1))


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
        regions = region_averages(grid, front_and_back=True)
        self.register_buffer("regions", regions, persistent=False)
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
            # Values of one kind are known of the same cases, so one system is solved for them.
            known, kind_of = torch.unique(said[:, a] >= 0, dim=1, return_inverse=True)
            for kind, rows in enumerate(known.T):
                if int(rows.sum()) >= FEWEST:
                    values = torch.nonzero(kind_of == kind).flatten()
                    weight, bias = _ridge(x[rows], 2 * said[rows, a][:, values].double() - 1)
                    self.weight[a, values] = weight.T.to(self.weight)
                    self.bias[a, values] = bias.to(self.bias)


def _ridge(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Fit y (n, V) by x (n, F): weights (F, V), constants (V,); the smaller of two systems."""
    count, num_features = x.shape
    middle, level = x.mean(dim=0), y.mean(dim=0)
    x, y = x - middle, y - level
    size = min(count, num_features)
    ridge = STRENGTH * count * torch.eye(size, dtype=x.dtype, device=x.device)
    if count <= num_features:
        weight = x.T @ torch.linalg.solve(x @ x.T + ridge, y)
    else:
        weight = torch.linalg.solve(x.T @ x + ridge, x.T @ y)
    return weight, level - middle @ weight
