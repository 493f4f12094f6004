"""The hybrid attention mask, and attention under it without ever building it.

The visual block is everything before <bos>: <start_of_image>, K visual tokens, <end_of_image>.
Visual tokens see each other; text is causal.

B batch, H heads, L sequence, d head width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def hybrid_mask(num_visual: int, num_text: int, device: torch.device | None = None) -> Tensor:
    """Bool (L, L), L = num_visual + num_text; True where the row may look at the column.

    Visual tokens see the whole visual block; text sees the visual block and earlier text.

           v v t t
        v  1 1 0 0
        v  1 1 0 0
        t  1 1 1 0
        t  1 1 1 1

    Padding needs no mask of its own: it stands to the right of the report, where no real token
    looks.
    """
    length = num_visual + num_text
    mask = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    mask[:num_visual, :num_visual] = True
    return mask


def hybrid_attention(
    queries: Tensor, keys: Tensor, values: Tensor, num_visual: int | None
) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask) v, (B, H, L, d), with the mask of `hybrid_mask`.

    Args:
        queries: (B, H, L, d).
        keys: (B, H, L, d), or more than L where a cache holds earlier positions.
        values: as keys.
        num_visual: length of the visual block; None lets every row look everywhere.
    """
    if num_visual is None:
        return F.scaled_dot_product_attention(queries, keys, values)
    # An explicit mask would cost L x L memory and rule out the flash kernels. Causal attention is
    # already right for text rows; only the visual rows are wrong, so they are computed again.
    visual = F.scaled_dot_product_attention(
        queries[:, :, :num_visual], keys[:, :, :num_visual], values[:, :, :num_visual]
    )
    causal = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    return torch.cat([visual, causal[:, :, num_visual:]], dim=2)
