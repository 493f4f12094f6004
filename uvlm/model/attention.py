"""Attention under the hybrid mask, without a mask.

Text rows of a sequence look at everything before them, so causal attention is right for them.
Only visual rows are not causal: they look at the whole visual block, and are computed once more
among themselves. So no L x L map of scores or mask is ever stored, and the fastest kernels apply.

B batch, H heads, L sequence, d head width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def hybrid_attention(
    queries: Tensor, keys: Tensor, values: Tensor, num_visual: int | None
) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask) v, (B, H, L, d); the mask is drawn in `hybrid_mask`.

    Args:
        queries: (B, H, L, d).
        keys: (B, H, L, d), or more than L where a cache holds earlier positions.
        values: as keys.
        num_visual: length of the visual block; None lets every row look everywhere.
    """
    if num_visual is None:
        return F.scaled_dot_product_attention(queries, keys, values)
    visual = F.scaled_dot_product_attention(
        queries[:, :, :num_visual], keys[:, :, :num_visual], values[:, :, :num_visual]
    )
    causal = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    return torch.cat([visual, causal[:, :, num_visual:]], dim=2)
