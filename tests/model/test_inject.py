"""Injection (eq. 5): what is added where, and what is left alone."""

from __future__ import annotations

import pytest
import torch

from uvlm.errors import ConfigError
from uvlm.model.inject import inject, injection_plan


def test_inject_equals_a_loop_over_positions() -> None:
    hidden, visual = torch.randn(2, 9, 3), torch.randn(2, 4, 3)
    expected = hidden.clone()
    for case in range(2):
        for token in range(4):
            expected[case, 1 + token] = hidden[case, 1 + token] + visual[case, token]
    assert torch.equal(inject(hidden, visual), expected)


def test_text_and_framing_positions_pass_bit_for_bit() -> None:
    hidden, visual = torch.randn(2, 9, 3), torch.full((2, 4, 3), 1e30)
    hidden[:, 6] = -0.0
    injected = inject(hidden, visual)
    for untouched in (slice(0, 1), slice(5, 9)):
        before, after = hidden[:, untouched], injected[:, untouched]
        assert torch.equal(
            before.contiguous().view(torch.int32), after.contiguous().view(torch.int32)
        )


def test_inject_leaves_its_input_unchanged() -> None:
    hidden = torch.randn(1, 6, 2)
    before = hidden.clone()
    inject(hidden, torch.ones(1, 4, 2))
    assert torch.equal(hidden, before)


def test_the_plan_pairs_stage_n_minus_j_plus_1_with_layer_j() -> None:
    plan = injection_plan("multi_layer", {stage: 6 - stage + 1 for stage in range(1, 7)})
    assert list(plan.items()) == [(1, 6), (2, 5), (3, 4), (4, 3), (5, 2), (6, 1)]


def test_input_only_injects_nothing() -> None:
    assert injection_plan("input_only", {6: 1, 5: 2}) == {}


def test_two_stages_for_one_layer_are_refused() -> None:
    with pytest.raises(ConfigError, match="stages 6 and 5 both feed layer 1"):
        injection_plan("multi_layer", {6: 1, 5: 1})
