"""Effective rank: how many directions a set of tokens really uses (Roy and Vetterli 2007).

    p_i = s_i / sum_j s_j           s_i singular values of the tokens (N, C), their mean removed
    rank = exp(-sum_i p_i log p_i)

1 if all tokens lie on a line, at most min(N - 1, C), and 0 if all are the same. A decoder whose
visual tokens have a low one is told nearly the same of every CT.
"""

from __future__ import annotations

import torch
from torch import Tensor


def effective_rank(tokens: Tensor) -> float:
    """Compute the effective rank of tokens (N, C).

    Singular values are roots of the eigenvalues of the smaller of two Gram matrices, in double
    precision: those below about 1e-8 of the largest are noise, and weigh nothing here.
    """
    x = tokens.double()
    x = x - x.mean(dim=0)
    gram = x.T @ x if x.shape[0] > x.shape[1] else x @ x.T
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    if float(values.sum()) == 0:
        return 0.0
    shares = values / values.sum()
    return float(torch.exp(-torch.xlogy(shares, shares).sum()))
