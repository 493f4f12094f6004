"""The hybrid attention mask: visual tokens see each other, text is causal.

The visual block is everything before <bos>: <start_of_image>, K visual tokens, <end_of_image>.
"""

from __future__ import annotations

import torch
from torch import Tensor


def hybrid_mask(num_visual: int, num_text: int, device: torch.device | None = None) -> Tensor:
    """Bool (L, L), L = num_visual + num_text; True where row may look at column.

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
