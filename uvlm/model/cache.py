"""The key-value cache: memory for all positions is allocated once, and each is computed once.

B batch, H heads, L new positions, d head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class LayerCache:
    """Keys and values that one layer has seen, (B, H, capacity, d), filled from the left.

    Without a `dtype` they are stored in the precision they arrive in.
    """

    def __init__(self, capacity: int, dtype: torch.dtype | None = None) -> None:
        self.capacity = capacity
        self.dtype = dtype
        self.length = 0
        self._stored: list[Tensor] = []  # keys and values, once their shape is known

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, H, L, d) keys and values; return all of them so far."""
        if not self._stored:
            batch, heads, _, head_dim = keys.shape
            shape = (batch, heads, self.capacity, head_dim)
            self._stored = [new.new_empty(shape, dtype=self.dtype) for new in (keys, values)]
        start, self.length = self.length, self.length + keys.shape[2]
        for stored, new in zip(self._stored, (keys, values), strict=True):
            stored[:, :, start : self.length] = new
        all_keys, all_values = (stored[:, :, : self.length] for stored in self._stored)
        return all_keys, all_values

    def repeat(self, times: int) -> None:
        """Turn every row into `times` adjacent copies."""
        self._stored = [stored.repeat_interleave(times, dim=0) for stored in self._stored]

    def reorder(self, rows: Tensor, start: int) -> None:
        """Let row i continue row `rows[i]`; positions before `start` are equal and stay."""
        for stored in self._stored:
            part = stored[:, :, start : self.length]
            part.copy_(part.index_select(0, rows))


class Cache(list[LayerCache]):
    """One cache per layer, also behind the interface that transformers' attention expects.

    `cues` are the cue tokens (B, A * P, E) that text reads behind the last layer, if it does.
    """

    cues: Tensor | None = None

    def repeat(self, times: int) -> None:
        """Turn every row into `times` adjacent copies, one per beam."""
        for layer in self:
            layer.repeat(times)
        if self.cues is not None:
            self.cues = self.cues.repeat_interleave(times, dim=0)

    def update(
        self, keys: Tensor, values: Tensor, layer_index: int, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Append to the cache of a layer, counted from 0."""
        return self[layer_index].extend(keys, values)
