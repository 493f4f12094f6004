"""The released code's way of writing a report, over the weights of our own decoder.

Written anew from what that code does: every new token runs the whole sequence through all layers,
builds a float mask of L x L anew, attends by masking and normalising a map of scores, and turns
every position, visual ones included, into logits. The visual features are injected each time.
Its sampling and its departures from the paper are left out, so both sides write the same tokens.

B batch, K visual tokens, L sequence, H heads, d head width, E width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from uvlm.model.decoder import DecoderLayer, LanguageDecoder, rotate
from uvlm.model.uvlm import UVLM


def float_mask(num_visual: int, length: int) -> Tensor:
    """(L, L): 0 where a row may look, minus infinity elsewhere."""
    mask = torch.full((length, length), float("-inf")).triu(1)
    mask[:num_visual, :num_visual] = 0.0
    return mask


def attention_by_scores(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """(B, H, L, d) each -> (B, H, L, d), through a map of scores per head."""
    scores = torch.matmul(queries, keys.transpose(-2, -1)) / queries.shape[-1] ** 0.5
    scores = scores.masked_fill(mask == float("-inf"), float("-inf"))
    return torch.matmul(F.softmax(scores, dim=-1), values)


def all_logits(model: UVLM, visual: Sequence[Tensor], token_ids: Tensor) -> Tensor:
    """Logits (B, L, V) of every position of visual block and text."""
    decoder = model.decoder
    assert isinstance(decoder, LanguageDecoder)
    block, injections = model._visual_block(visual)
    hidden = torch.cat([block, decoder.embed(token_ids)], dim=1)
    mask = float_mask(block.shape[1], hidden.shape[1])
    for number, layer in enumerate(decoder.layers, start=1):
        assert isinstance(layer, DecoderLayer)
        if number in injections:
            visual_part = hidden[:, 1 : 1 + injections[number].shape[1]] + injections[number]
            hidden = torch.cat(
                [hidden[:, :1], visual_part, hidden[:, 1 + visual_part.shape[1] :]], 1
            )
        hidden = _layer(layer, hidden, mask, decoder)
    return F.linear(decoder.norm(hidden), decoder.embedding.weight)


def _layer(layer: DecoderLayer, hidden: Tensor, mask: Tensor, decoder: LanguageDecoder) -> Tensor:
    batch, length, width = hidden.shape
    rotation = decoder.rotation[:, :length]
    qkv: Tensor = layer.qkv(layer.attention_norm(hidden))
    split = qkv.view(batch, length, 3, layer.heads, -1).permute(2, 0, 3, 1, 4)
    queries, keys, values = rotate(split[0], rotation), rotate(split[1], rotation), split[2]
    mixed = attention_by_scores(queries, keys, values, mask)
    hidden = hidden + layer.attention_out(mixed.transpose(1, 2).reshape(batch, length, width))
    ffn: Tensor = layer.ffn_out(F.gelu(layer.ffn_in(layer.ffn_norm(hidden))))
    return hidden + ffn


def token_loss(model: UVLM, visual: Sequence[Tensor], token_ids: Tensor) -> Tensor:
    """Cross-entropy of the next token, after logits of every position."""
    logits = all_logits(model, visual, token_ids[:, :-1])[:, -token_ids.shape[1] + 1 :]
    return F.cross_entropy(logits.flatten(0, 1), token_ids[:, 1:].flatten())


@torch.no_grad()
def write(model: UVLM, visual: Sequence[Tensor], num_tokens: int) -> Tensor:
    """Write (B, num_tokens) greedily."""
    tokens = torch.full((len(visual[0]), 1), model.specials.bos)
    for _ in range(num_tokens):
        best = all_logits(model, visual, tokens)[:, -1].argmax(dim=-1, keepdim=True)
        tokens = torch.cat([tokens, best], dim=1)
    return tokens[:, 1:]
