"""The key-value cache: memory for every position is taken once, and each position is read once.

B batch, H heads, L new positions, d head width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


class LayerCache:
    """Keys and values that one layer has seen, (B, H, capacity, d), filled from the left."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, H, L, d) keys and values; return all of them so far."""
        if self._keys is None or self._values is None:
            batch, heads, _, head_dim = keys.shape
            self._keys = keys.new_empty(batch, heads, self.capacity, head_dim)
            self._values = values.new_empty(batch, heads, self.capacity, head_dim)
        end = self.length + keys.shape[2]
        self._keys[:, :, self.length : end] = keys
        self._values[:, :, self.length : end] = values
        self.length = end
        return self._keys[:, :, :end], self._values[:, :, :end]

    def repeat(self, times: int) -> None:
        """Make every row `times` rows that stand together."""
        if self._keys is not None and self._values is not None:
            self._keys = self._keys.repeat_interleave(times, dim=0)
            self._values = self._values.repeat_interleave(times, dim=0)

    def reorder(self, rows: Tensor, start: int) -> None:
        """Let row i continue row `rows[i]`; positions before `start` are alike and stay."""
        if self._keys is not None and self._values is not None:
            for stored in (self._keys, self._values):
                part = stored[:, :, start : self.length]
                part.copy_(part.index_select(0, rows))


Cache = Sequence[LayerCache]
