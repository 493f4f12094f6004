from __future__ import annotations

import torch
from torch.nn.functional import cosine_similarity

from uvlm.inference.report_writer import nearest_cases


def test_the_nearest_case_has_the_largest_cosine_similarity_of_all() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, candidates = (torch.randn(n, 5, generator=generator) for n in (7, 40))
    candidates *= torch.rand(40, 1, generator=generator) * 100  # lengths do not matter
    names = [f"train_{number}" for number in range(40)]
    batches = [(names[a : a + 16], candidates[a : a + 16]) for a in range(0, 40, 16)]
    expected = [
        names[int(torch.stack([cosine_similarity(q, c, dim=0) for c in candidates]).argmax())]
        for q in queries
    ]
    assert nearest_cases(queries, batches) == expected
    assert len(set(expected)) > 1


def test_of_equally_near_cases_the_first_is_taken_and_without_any_none() -> None:
    query = torch.tensor([[1.0, 1.0]])
    twice = [(["a", "b"], torch.tensor([[2.0, 2.0], [1.0, 1.0]])), (["c"], torch.ones(1, 2))]
    assert nearest_cases(query, twice) == ["a"]
    assert nearest_cases(query, []) == [""]
