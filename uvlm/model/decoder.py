"""The language decoder: a small pre-norm transformer with rotary positions and a KV cache.

It knows nothing about images: it takes embedded positions, adds what is injected into each layer
(before it, as in eq. 5) and returns hidden states. `logits` is called only where a token is
predicted, because the vocabulary is wide.

B batch, L sequence, K visual tokens, E width, H heads, d = E / H, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uvlm.errors import ConfigError
from uvlm.model.attention import hybrid_attention
from uvlm.model.cache import Cache, LayerCache
from uvlm.model.inject import Position, inject

ROTARY_BASE = 10000.0


class DecoderSizes(NamedTuple):
    """Sizes of our own decoder; `ffn` is the width inside a feed-forward."""

    layers: int
    width: int
    heads: int
    ffn: int
    dropout: float


def rotary_tables(num_positions: int, head_dim: int) -> Tensor:
    """Tabulate cosines and signed sines (2, num_positions, d).

    Channels i and i + d/2 form a pair that turns by position * base^(-2i/d).
    """
    # fp64, because fp32 angles around 1000 are 6e-5 apart.
    exponents = torch.arange(head_dim // 2, dtype=torch.float64) * 2 / head_dim
    positions = torch.arange(num_positions, dtype=torch.float64)
    angles = torch.outer(positions, ROTARY_BASE**-exponents)  # (num_positions, d/2)
    cos, sin = angles.cos().float(), angles.sin().float()
    return torch.stack([torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)])


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn each channel pair of x (..., L, d) by its position's angle; norms do not change.

    `rotation` (2, L, d) is cut from `rotary_tables` at the positions of x.
    """
    cos, signed_sin = rotation
    # Rolling by d/2 puts each channel's partner in its place; the table carries the minus sign.
    turned = torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), signed_sin)
    return turned.to(x.dtype)  # under autocast the tables stay fp32, the cache need not


class DecoderLayer(nn.Module):
    """LM_j of eq. 5: attention and feed-forward, each after a norm and around a residual."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        _, width, self.heads, ffn, dropout = sizes
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.ffn_norm = nn.LayerNorm(width)
        self.ffn_in = nn.Linear(width, ffn)
        self.ffn_out = nn.Linear(ffn, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        hidden: Tensor,
        rotation: Tensor,
        num_visual: int | None,
        cache: LayerCache | None,
        after_attention: Tensor | None = None,
    ) -> Tensor:
        """Map (B, L, E) to (B, L, E); inject `after_attention` (B, K, E) between the two parts."""
        attended: Tensor = self.dropout(self._attend(hidden, rotation, num_visual, cache))
        hidden = hidden + attended
        if after_attention is not None:
            hidden = inject(hidden, after_attention)
        ffn: Tensor = self.dropout(self.ffn_out(F.gelu(self.ffn_in(self.ffn_norm(hidden)))))
        return hidden + ffn

    def _attend(
        self, hidden: Tensor, rotation: Tensor, num_visual: int | None, cache: LayerCache | None
    ) -> Tensor:
        width = hidden.shape[-1]
        qkv: Tensor = self.qkv(self.attention_norm(hidden))
        turned, straight = qkv.split([2 * width, width], dim=-1)
        queries, keys = rotate(self._split_heads(turned, parts=2), rotation)  # one kernel for both
        (values,) = self._split_heads(straight, parts=1)
        if cache is None:
            mixed = hybrid_attention(queries, keys, values, num_visual)
        else:
            keys, values = cache.extend(keys, values)
            # Autocast would copy the whole cache to bf16 at every token.
            with torch.autocast(keys.device.type, enabled=False):
                mixed = hybrid_attention(queries.to(keys.dtype), keys, values, num_visual)
            mixed = mixed.to(qkv.dtype)
        out: Tensor = self.attention_out(mixed.transpose(1, 2).flatten(2))
        return out

    def _split_heads(self, x: Tensor, parts: int) -> Tensor:
        """Reshape (B, L, parts * E) to (parts, B, H, L, d)."""
        batch, length, _ = x.shape
        return x.view(batch, length, parts, self.heads, -1).permute(2, 0, 3, 1, 4)


class LanguageDecoder(nn.Module):
    """Embedding (tied to the output), layers and a final norm."""

    rotation: Tensor

    def __init__(
        self,
        vocabulary_size: int,
        sizes: DecoderSizes,
        max_positions: int,
        position: Position = "before_layer",
    ) -> None:
        super().__init__()
        self.position = position
        self.embedding = nn.Embedding(vocabulary_size, sizes.width)
        self.dropout = nn.Dropout(sizes.dropout)
        self.layers = nn.ModuleList(DecoderLayer(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width)
        tables = rotary_tables(max_positions, sizes.width // sizes.heads)
        self.register_buffer("rotation", tables, persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        """Scale weights to their fan-in, and down further where a layer writes to the residual.

        GPT-2's fixed 0.02 suits its width; at width 64 the decoder hardly learned from the image.
        """
        residual_scale = (2 * len(self.layers)) ** -0.5
        for name, weight in self.named_parameters():
            if name.endswith(("attention_out.weight", "ffn_out.weight")):
                nn.init.normal_(weight, std=residual_scale * weight.shape[1] ** -0.5)
            elif weight.dim() == 2:
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LanguageDecoder:
        """Move or convert the module, but keep the tables in fp32: bf16 would bend the rotation."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.rotation = rotary_tables(*self.rotation.shape[1:]).to(self.rotation.device)
        return self

    def embed(self, token_ids: Tensor) -> Tensor:
        """Embed token ids (..., T): (..., T, E)."""
        embedded: Tensor = self.embedding(token_ids)
        return embedded

    def new_cache(self, capacity: int) -> Cache:
        """Make an empty cache, one entry per layer, for at most `capacity` positions.

        On a CPU it is fp32 whatever the weights are: one query over 898 positions takes 0.10 ms in
        fp32 and 0.76 ms in bf16.
        """
        dtype = torch.float32 if self.rotation.device.type == "cpu" else None
        return Cache(LayerCache(capacity, dtype) for _ in self.layers)

    def forward(
        self,
        hidden: Tensor,
        injections: Mapping[int, Tensor],
        num_visual: int | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Run all layers over embedded positions.

        Args:
            hidden: (B, L, E); with a cache, the positions that follow those already cached.
            injections: visual features (B, K, E) to add at a layer, by its number from 1.
            num_visual: length of the visual block, for the hybrid mask; None looks everywhere.
            cache: from `new_cache`; extended in place.

        Returns:
            Normed hidden states (B, L, E), ready for `logits`.
        """
        start = cache[0].length if cache else 0
        end, limit = start + hidden.shape[1], self.rotation.shape[1]
        if end > limit:
            fact = f"a sequence of {end} positions is longer than the {limit} built for"
            raise ConfigError("decoder.max_report_tokens", fact, "raise it or shorten the report")
        rotation = self.rotation[:, start:end]
        hidden = self.dropout(hidden)
        for index, layer in enumerate(self.layers):
            visual = injections.get(index + 1)
            if visual is not None and self.position == "before_layer":
                hidden, visual = inject(hidden, visual), None
            hidden = layer(hidden, rotation, num_visual, cache[index] if cache else None, visual)
        normed: Tensor = self.norm(hidden)
        return normed

    def logits(self, hidden: Tensor) -> Tensor:
        """Turn hidden states (..., E) into logits (..., V)."""
        return F.linear(hidden, self.output_weight)

    @property
    def output_weight(self) -> Tensor:
        """Weight (V, E) of the output layer, tied to the embedding."""
        return self.embedding.weight
