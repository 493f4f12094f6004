"""Cross-entropy of report tokens from hidden states, without the table of all logits.

With 151,669 words, logits and gradients of 2 x 1,024 tokens take several GB. Here the tokens are
processed in chunks; each chunk's gradient is formed while its logits exist, so only one chunk's
table and the gradient of the weights are held.

N tokens to predict, E width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_ELEMENTS: Final = 2**24  # logits of one chunk; smaller tables are made whole


def token_cross_entropy(
    hidden: Tensor, weight: Tensor, target_ids: Tensor, token_weights: Tensor | None = None
) -> Tensor:
    """Average -log softmax(hidden @ weight.T)[target] over all tokens.

    Args:
        hidden: (N, E), report tokens and <eos> only.
        weight: (V, E), of the output layer.
        target_ids: (N,).
        token_weights: (N,) above 0, how much each counts in the average; None for all alike.
    """
    if len(hidden) * len(weight) <= CHUNK_ELEMENTS:
        logits = F.linear(hidden, weight).float()
        if token_weights is None:
            return F.cross_entropy(logits, target_ids)
        losses = F.cross_entropy(logits, target_ids, reduction="none")
        return (losses * token_weights).sum() / token_weights.sum()
    apply: Callable[..., Tensor] = _ChunkedCrossEntropy.apply
    return apply(hidden, weight, target_ids, token_weights)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Loss and gradient in one pass over the tokens.

    With z_n = W h_n, p_n = softmax(z_n) and y_n the target:
        loss    = 1/N sum_n (log sum_v exp z_nv - z_ny)
        dloss/dz_nv = (p_nv - [v = y_n]) / N =: g_nv
        dloss/dh_n  = sum_v g_nv w_v        dloss/dw_v = sum_n g_nv h_n
    If tokens are weighted, 1/N is a token's weight over the sum of all.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, target_ids: Tensor, token_weights: Tensor | None
    ) -> Tensor:
        device = hidden.device.type
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        else:
            dtype = torch.promote_types(hidden.dtype, weight.dtype)
        # Cast once, here, as autocast would do again for every chunk.
        with torch.autocast(device, enabled=False):
            h, w = hidden.to(dtype), weight.to(dtype)
            needed = any(ctx.needs_input_grad[:2])
            loss, grad_h, grad_w = _walk(h, w, target_ids, token_weights, needed)
        if grad_h is not None and grad_w is not None:
            ctx.gradients = [grad_h.to(hidden.dtype), grad_w.to(weight.dtype)]
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None, None]:
        grad_weight, grad_hidden = ctx.gradients.pop(), ctx.gradients.pop()  # scaled in place
        return grad_hidden.mul_(grads[0]), grad_weight.mul_(grads[0]), None, None


def _walk(
    hidden: Tensor,
    weight: Tensor,
    target_ids: Tensor,
    token_weights: Tensor | None,
    with_gradient: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Compute the loss, and the gradients of `hidden` and `weight`, chunk by chunk."""
    num_tokens, rows = len(hidden), max(1, CHUNK_ELEMENTS // len(weight))
    own: Tensor | float = 1.0  # weights of a chunk's tokens
    total_weight = num_tokens if token_weights is None else token_weights.sum()
    loss = torch.zeros((), device=hidden.device)
    grad_h = torch.empty_like(hidden) if with_gradient else None
    grad_w = torch.zeros_like(weight, dtype=torch.float32) if with_gradient else None
    for start in range(0, num_tokens, rows):
        h, targets = hidden[start : start + rows], target_ids[start : start + rows, None]
        if token_weights is not None:
            own = token_weights[start : start + rows, None]
        z = F.linear(h, weight).float()  # (rows, V)
        highest = z.amax(dim=1, keepdim=True)  # subtracted, so that exp cannot overflow
        at_target = z.gather(1, targets)  # before `z` is overwritten by `p`, to save its memory
        p = z.sub_(highest).exp_()
        total = p.sum(dim=1, keepdim=True)
        loss += (own * (total.log() + highest - at_target)).sum()
        if grad_h is None or grad_w is None:
            continue
        share = own / total_weight
        p.div_(total / share if token_weights is not None else total * num_tokens)
        g = p.scatter_add_(1, targets, -share * p.new_ones(targets.shape)).to(h.dtype)
        grad_h[start : start + rows] = g @ weight
        # Always summed in float32: bfloat16 would round the later chunks away.
        if g.dtype == grad_w.dtype:
            grad_w.addmm_(g.t(), h)
        else:
            grad_w += g.t() @ h
    return loss / total_weight, grad_h, grad_w
