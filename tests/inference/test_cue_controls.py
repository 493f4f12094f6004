"""Controls of cues, against loops over cases and numbers worked out by hand."""

from __future__ import annotations

from statistics import median_low

import pytest
import torch
from torch import Tensor

from uvlm.inference.cue_controls import oracle, shuffled, unknown
from uvlm.model.cues import likeliest


def naive_oracle(evidence: Tensor, truth: Tensor, cuts: Tensor) -> Tensor:
    told = evidence.clone()
    cases, abnormalities, width = evidence.shape
    for a in range(abnormalities):
        for f in range(width):
            cut = float(cuts[a]) if f == 0 else 0.0
            margins = [float(evidence[n, a, f]) - cut for n in range(cases)]
            for n in range(cases):
                wanted = float(truth[n, a, f])
                if wanted < 0 or (margins[n] > 0) == (wanted > 0):
                    continue
                same = [abs(m) for m in margins if (m > 0) == (wanted > 0)]
                strength = median_low(same or [abs(m) for m in margins])
                told[n, a, f] = cut + (strength if wanted > 0 else -strength)
    return told


def test_an_oracle_is_what_a_loop_over_cases_gives() -> None:
    draws = torch.Generator().manual_seed(1)
    evidence = torch.randn(9, 4, 3, generator=draws)
    evidence[:, 3] = evidence[:, 3].abs() + 2  # always claimed: what is false has no example
    truth = torch.randint(-1, 2, evidence.shape, generator=draws)
    cuts = torch.tensor([-0.5, 0.0, 0.3, 1.0])
    found = oracle(evidence, truth, cuts)
    torch.testing.assert_close(found, naive_oracle(evidence, truth, cuts))
    middle = torch.zeros(4, 3)
    middle[:, 0] = cuts
    known = truth >= 0
    assert torch.equal((found > middle)[known], (truth > 0)[known])
    assert torch.equal(found[~known], evidence[~known])


def test_an_oracle_is_as_sure_as_the_classifier_commonly_is() -> None:
    evidence = torch.tensor([3.0, 1.0, 2.0, -4.0, -1.0])[:, None, None]
    truth = torch.tensor([1, 1, 1, 1, 0])[:, None, None]
    found = oracle(evidence, truth, torch.tensor([0.5]))
    assert found.flatten().tolist() == [3.0, 1.0, 2.0, 2.0, -1.0]  # margins 2.5, 0.5 and 1.5


def test_what_an_oracle_says_of_a_side_is_its_first_choice() -> None:
    evidence = torch.tensor([[[0.1, 0.5], [0.4, -0.2]], [[-0.3, 0.2], [0.6, 0.5]]])
    evidence = torch.cat([torch.zeros(2, 2, 1), evidence], dim=-1)
    truth = torch.tensor([[[1, 1, 0], [1, 0, 1]], [[1, 0, 1], [1, 1, 0]]])
    found = oracle(evidence, truth, torch.zeros(2))
    assert torch.equal(likeliest(found[..., 1:], (2,)) > 0, truth[..., 1:] > 0)


def test_unknown_evidence_is_nothing_and_shuffled_evidence_is_anothers() -> None:
    evidence = torch.randn(3, 2, 4)
    assert unknown(evidence).isnan().all()
    found = shuffled(evidence, [2, 0, 1])
    assert all(torch.equal(found[n], evidence[other]) for n, other in enumerate([2, 0, 1]))


@pytest.mark.parametrize("claims", [True, False])
def test_an_abnormality_that_the_classifier_never_doubts_can_be_denied(claims: bool) -> None:
    evidence = torch.tensor([2.0, 3.0, 4.0])[:, None, None] * (1 if claims else -1)
    truth = torch.full((3, 1, 1), float(not claims))
    found = oracle(evidence, truth, torch.zeros(1)).flatten()
    assert found.tolist() == [-3.0] * 3 if claims else [3.0] * 3
