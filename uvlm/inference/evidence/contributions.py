"""What each place of a CT adds to a classifier's logits: its attention, with what was attended to.

A pooled query is a sum over the K places of f_N, each weighted by attention, and the logit of an
abnormality is linear in the pooled queries but for a layer norm. With that norm's mean and spread
held at their values, a logit is exactly

    logit_a = constant_a + sum_k contribution_ak

so that, unlike attention itself, a map of contributions belongs to one abnormality and has a sign.

B batch, C channels, H heads, d = C / H, K places of f_N, M queries, A abnormalities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from uvlm.model.classifier import Classifier


@torch.no_grad()
def contributions(classifier: Classifier, deepest: Tensor) -> tuple[Tensor, Tensor]:
    """Split the logits of a batch over the places of f_N.

    Args:
        classifier: in evaluation mode.
        deepest: f_N as tokens (B, K, C) of float32.

    Returns:
        Contributions (B, A, K) and what no place contributes, (B, A); together the logits.
    """
    values = classifier.norm(deepest)
    moved = _moved(classifier, values)  # (B, M, K, C): what each place adds to a pooled query
    bias: Tensor = classifier.attention.out_proj.bias
    pooled = moved.sum(2) + bias  # (B, M, C)
    norm, linear = classifier.pooled_norm, classifier.linear
    spread = (pooled.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()  # (B, M, 1)
    weight = linear.weight.unflatten(1, pooled.shape[1:]) * norm.weight  # (A, M, C)
    weight = weight - weight.mean(-1, keepdim=True)  # the norm subtracts the mean of the channels
    scaled = weight[None] / spread[:, None]  # (B, A, M, C)
    parts = torch.einsum("bamc,bmkc->bak", scaled, moved)
    shift = (linear.weight.unflatten(1, pooled.shape[1:]) * norm.bias).sum((1, 2))  # (A,)
    constant = torch.einsum("bamc,c->ba", scaled, bias) + shift + linear.bias
    return parts, constant


def _moved(classifier: Classifier, values: Tensor) -> Tensor:
    """Compute what each place adds to each pooled query, the output bias apart: (B, M, K, C)."""
    attention = classifier.attention
    heads, channels = attention.num_heads, values.shape[-1]
    w_query, w_key, w_value = attention.in_proj_weight.chunk(3)
    b_query, b_key, b_value = attention.in_proj_bias.chunk(3)
    queries = (classifier.queries @ w_query.T + b_query).unflatten(-1, (heads, -1))  # (M, H, d)
    keys = ((values + classifier.positions) @ w_key.T + b_key).unflatten(-1, (heads, -1))
    held = (values @ w_value.T + b_value).unflatten(-1, (heads, -1))  # (B, K, H, d)
    scores = torch.einsum("mhd,bkhd->bhmk", queries, keys) / (channels // heads) ** 0.5
    weights = scores.softmax(-1)  # (B, H, M, K)
    out = attention.out_proj.weight.unflatten(1, (heads, -1))  # (C, H, d)
    return torch.einsum("bhmk,bkhd,chd->bmkc", weights, held, out)
