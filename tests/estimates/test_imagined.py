"""Tensors without numbers hold as many bytes as real ones would."""

from __future__ import annotations

import resource

import torch
from torch import nn

from uvlm.estimates.imagined import imagined


def test_a_result_counts_while_it_lives_and_a_view_never() -> None:
    with imagined() as held:
        a = torch.empty(1000)  # 4,000 bytes
        view = a[:500].view(50, 10)
        assert (held.now, held.peak) == (4000, 4000)
        b = a * 2
        assert held.now == 8000
        del a, view
        assert held.now == 4000
        b.add_(1)
        assert (held.now, held.peak) == (4000, 8000)


def test_a_step_holds_weights_gradients_and_what_the_backward_pass_needs() -> None:
    with imagined() as held:
        linear = nn.Linear(100, 50, bias=False)
        weights = 100 * 50 * 4
        assert held.now == weights
        x = torch.empty(1000, 100)
        linear(x).exp().sum().backward()
        assert held.now == weights + 1000 * 100 * 4 + weights  # and the gradient
    # At the end of the backward pass: x, the result of exp, its gradient, and both weights.
    rows = 1000 * 50 * 4
    assert held.peak >= 2 * weights + 1000 * 100 * 4 + rows


def test_terabytes_cost_nothing_and_no_random_number_is_drawn() -> None:
    before, state = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, torch.get_rng_state()
    with imagined() as held:
        huge = torch.rand(10**6, 10**6)
        assert (huge @ huge).shape == huge.shape
    assert held.peak == 2 * 4 * 10**12
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 * 1024
    assert torch.equal(torch.get_rng_state(), state)
