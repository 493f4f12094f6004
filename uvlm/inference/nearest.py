"""The training case that looks most like a case to the classifier.

Its report is what a retrieval system would hand out: a baseline for a model that writes.

N queries, B candidates at once, E numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize


def nearest_cases(queries: Tensor, candidates: Iterable[tuple[Sequence[str], Tensor]]) -> list[str]:
    """Find the candidate with the largest cosine similarity; of equal ones, the first.

    Args:
        queries: (N, E).
        candidates: batches of ids and embeddings (B, E), looked at once and not kept.

    Returns:
        N ids, empty where there is no candidate.
    """
    units = normalize(queries, dim=1)
    best = torch.full((len(queries),), -torch.inf, device=queries.device)
    names = [""] * len(queries)
    for ids, embeddings in candidates:
        similarity, place = (units @ normalize(embeddings, dim=1).T).max(dim=1)
        for number in torch.nonzero(similarity > best).flatten().tolist():
            names[number] = ids[int(place[number])]
        best = torch.maximum(best, similarity)
    return names
