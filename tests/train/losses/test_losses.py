from __future__ import annotations

from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from uvlm.train.losses import slabs
from uvlm.train.losses.dice_cross_entropy import dice_cross_entropy
from uvlm.train.losses.losses import (
    class_weights,
    deep_supervision_loss,
    pool_labels,
    positive_weights,
)


def naive_dice(logits: Tensor, target: Tensor, classes: list[int]) -> Tensor:
    """One class after the other, from its own mask."""
    probabilities = logits.softmax(dim=1)
    losses_by_class = []
    for c in classes:
        truth = (target == c).to(logits.dtype)
        overlap = (probabilities[:, c] * truth).sum()
        size = probabilities[:, c].sum() + truth.sum()
        losses_by_class.append(1 - (2 * overlap + 1e-5) / (size + 1e-5))
    return torch.stack(losses_by_class).mean()


def example(seed: int, num_classes: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, num_classes, 4, 5, 6, generator=generator)
    target = torch.randint(0, num_classes, (2, 4, 5, 6), generator=generator)
    target[target == 3] = 0  # class 3 is absent
    return logits, target.to(torch.uint8), 0.5 + torch.rand(num_classes, generator=generator)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize(("mode", "classes"), [("present", [1, 2, 4, 5]), ("all", [1, 2, 3, 4, 5])])
def test_loss_and_gradient_equal_a_naive_loop(
    mode: Literal["present", "all"],
    classes: list[int],
    memory: torch.memory_format,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slabs, "SLAB_ELEMENTS", 6 * 30 * 3)  # slabs of 3 slices, the last of 1
    logits, target, weights = example(0)
    logits = logits.to(memory_format=memory).requires_grad_()
    dice, cross_entropy = dice_cross_entropy(logits, target, weights, mode)
    (1.3 * dice + 0.7 * cross_entropy).backward()

    exact = logits.detach().double().requires_grad_()
    naive = naive_dice(exact, target, classes)
    reference = F.cross_entropy(exact, target.long(), weight=weights.double())
    (1.3 * naive + 0.7 * reference).backward()

    assert dice.item() == pytest.approx(naive.item(), abs=1e-6)
    assert cross_entropy.item() == pytest.approx(reference.item(), abs=1e-6)
    assert logits.grad is not None
    assert exact.grad is not None
    scale = exact.grad.abs().max()
    assert (logits.grad.double() - exact.grad).abs().max() < 1e-5 * scale
    assert logits.grad.stride() == logits.stride()


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last_3d])
def test_bf16_logits_are_summed_in_fp32_and_get_a_bf16_gradient(
    memory: torch.memory_format,
) -> None:
    logits, target, weights = example(4)
    low = logits.bfloat16().to(memory_format=memory).requires_grad_()
    high = low.detach().float().requires_grad_()
    for leaf in (low, high):
        torch.stack(dice_cross_entropy(leaf, target, weights)).sum().backward()
    found, expected = (
        torch.stack(dice_cross_entropy(leaf.detach(), target, weights)) for leaf in (low, high)
    )
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert low.grad is not None
    assert high.grad is not None
    assert low.grad.dtype == torch.bfloat16
    torch.testing.assert_close(low.grad.float(), high.grad.bfloat16().float(), rtol=1e-2, atol=1e-7)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.floats(-50, 50))
def test_adding_a_constant_to_all_logits_changes_nothing(seed: int, shift: float) -> None:
    logits, target, weights = example(seed)
    before = dice_cross_entropy(logits, target, weights)
    after = dice_cross_entropy(logits + shift, target, weights)
    torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-4)


def test_a_certain_and_right_prediction_costs_nothing() -> None:
    _, target, weights = example(1)
    logits = 100 * F.one_hot(target.long(), 6).permute(0, 4, 1, 2, 3).float()
    dice, cross_entropy = dice_cross_entropy(logits, target, weights)
    assert dice.item() == pytest.approx(0, abs=1e-5)
    assert cross_entropy.item() == pytest.approx(0, abs=1e-5)


def test_a_patch_of_background_has_no_dice_term_and_a_finite_gradient() -> None:
    logits, target, weights = example(2)
    logits.requires_grad_()
    dice, cross_entropy = dice_cross_entropy(logits, torch.zeros_like(target), weights)
    (dice + cross_entropy).backward()
    assert dice.item() == 0
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_deep_supervision_is_the_weighted_mean_over_resolutions() -> None:
    _, target, weights = example(3)
    target = F.pad(target, (0, 2, 0, 3))  # 4 x 8 x 8
    shapes = [(4, 8, 8), (2, 4, 4), (1, 2, 2), (1, 2, 2), (1, 1, 1)]
    torch.manual_seed(0)
    outputs = [torch.randn(2, 6, *shape) for shape in shapes]
    terms = deep_supervision_loss(outputs, target, weights, (1.0, 0.5, 0.0, 0.25))
    each = [
        dice_cross_entropy(out, pool_labels(target, shape), weights)
        for out, shape in zip(outputs, shapes, strict=True)
    ]
    shares = [4 / 7, 2 / 7, 0, 1 / 7]
    expected = [
        sum(s * e[part].item() for s, e in zip(shares, each, strict=False)) for part in (0, 1)
    ]
    assert [terms["dice"].item(), terms["ce"].item()] == pytest.approx(expected, abs=1e-6)


def test_one_lesion_voxel_survives_pooling_because_its_id_is_higher() -> None:
    target = torch.full((1, 8, 8, 8), 7, dtype=torch.uint8)
    target[0, 5, 2, 7] = 40
    pooled = pool_labels(target, (2, 2, 2))
    assert pooled.dtype == torch.uint8
    assert (pooled == 40).nonzero().tolist() == [[0, 1, 0, 1]]
    assert pooled.max() == 40
    assert (pooled == 7).sum() == 7


def test_class_weights_are_a_power_of_inverse_frequency_up_to_a_cap() -> None:
    counts = torch.tensor([500.0, 400.0, 99.0, 1.0, 0.0])
    weights = class_weights(counts, power=0.5, cap=20.0)
    expected = [1.0, (1 / 0.4) ** 0.5, (1 / 0.099) ** 0.5, 20.0, 1.0]
    assert weights.tolist() == pytest.approx(expected, rel=1e-6)


def test_a_positive_weighs_its_negatives_per_positive_up_to_a_cap() -> None:
    table = torch.zeros(10, 5, dtype=torch.int64)
    table[:5, 0], table[:2, 1], table[:1, 2], table[:, 4] = 1, 1, 1, 1  # none has number 3
    assert positive_weights(table, cap=6.0).tolist() == [1.0, 4.0, 6.0, 1.0, 1.0]
