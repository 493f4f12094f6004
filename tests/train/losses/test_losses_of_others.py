"""Dice + cross-entropy against MONAI's and nnU-Net's own classes, ignored voxels included.

nnU-Net returns minus the Dice coefficient where we and MONAI return one minus it: 1 lower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from uvlm.data.label_scheme import IGNORE_ID
from uvlm.train.losses import slabs
from uvlm.train.losses.dice_cross_entropy import dice_cross_entropy
from uvlm.train.losses.losses import deep_supervision_loss, pool_labels

SHAPES = [(6, 8, 10), (3, 4, 5), (2, 2, 3)]
MEMORY = [torch.contiguous_format, torch.channels_last_3d]
CLASSES = 7
WEIGHTS = torch.ones(CLASSES)


@pytest.fixture(autouse=True)
def _several_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slabs, "SLAB_ELEMENTS", CLASSES * 170)


def logits_of(shape: Sequence[int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(2, CLASSES, *shape, generator=generator)


def target_of(seed: int, ignored: float) -> Tensor:
    """Class 5 is absent; a share of the voxels is ignored, a whole corner and single ones."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, CLASSES, (2, *SHAPES[0]), generator=generator)
    target[target == 5] = 0
    if ignored:
        target[torch.rand(target.shape, generator=generator) < ignored] = IGNORE_ID
        target[0, :4, :4, :4] = IGNORE_ID
    return target.to(torch.uint8)


def monai_loss(logits: Tensor, target: Tensor) -> Tensor:
    from monai.losses.dice import DiceCELoss

    loss = DiceCELoss(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        batch=True,
        smooth_nr=1e-5,
        smooth_dr=1e-5,
    )
    value: Tensor = loss(logits, target.long()[:, None])
    return value


def nnunet_loss() -> Any:
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    dice = {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}
    return DC_and_CE_loss(dice, {}, 1, 1, IGNORE_ID, MemoryEfficientSoftDiceLoss)


def value_and_gradients(
    loss: Callable[..., Tensor], logits: Sequence[Tensor], *others: Any
) -> tuple[float, list[Tensor]]:
    leaves = [tensor.clone().requires_grad_() for tensor in logits]
    value = loss(leaves, *others)
    return value.item(), list(torch.autograd.grad(value, leaves))


def ours(leaves: Sequence[Tensor], target: Tensor) -> Tensor:
    return torch.stack(dice_cross_entropy(leaves[0], target, WEIGHTS, "all")).sum()


def assert_same_gradients(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert other.abs().max() > 0
        assert (one - other).abs().max() <= 1e-5 * other.abs().max()


@pytest.mark.parametrize("memory", MEMORY)
def test_value_and_gradient_are_monais(memory: torch.memory_format) -> None:
    logits = [logits_of(SHAPES[0], 0).to(memory_format=memory)]
    target = target_of(0, ignored=0.0)
    value, gradients = value_and_gradients(ours, logits, target)
    expected = value_and_gradients(lambda leaves: monai_loss(leaves[0], target), logits)
    assert value == pytest.approx(expected[0], abs=1e-6)
    assert_same_gradients(gradients, expected[1])


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("ignored", [0.0, 0.3])
def test_value_and_gradient_are_nnunets_but_for_one(
    memory: torch.memory_format, ignored: float
) -> None:
    logits = [logits_of(SHAPES[0], 1).to(memory_format=memory)]
    target = target_of(1, ignored)
    value, gradients = value_and_gradients(ours, logits, target)
    nnunet = nnunet_loss()
    expected = value_and_gradients(lambda leaves: nnunet(leaves[0], target.long()[:, None]), logits)
    assert value == pytest.approx(expected[0] + 1, abs=1e-6)
    assert_same_gradients(gradients, expected[1])
    is_ignored = (target == IGNORE_ID)[:, None].expand_as(gradients[0])
    assert not gradients[0][is_ignored].any()


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("ignored", [0.0, 0.5])
def test_deep_supervision_is_nnunets_wrapper_around_it(
    memory: torch.memory_format, ignored: float
) -> None:
    from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper

    outputs = [logits_of(shape, 2 + i).to(memory_format=memory) for i, shape in enumerate(SHAPES)]
    target, levels = target_of(2, ignored), (1.0, 0.5, 0.25)

    def supervised(leaves: Sequence[Tensor]) -> Tensor:
        terms = deep_supervision_loss(leaves, target, WEIGHTS, levels, "all")
        return torch.stack(list(terms.values())).sum()

    pooled = [pool_labels(target, shape).long()[:, None] for shape in SHAPES]
    wrapper = DeepSupervisionWrapper(nnunet_loss(), [level / sum(levels) for level in levels])
    value, gradients = value_and_gradients(supervised, outputs)
    expected = value_and_gradients(lambda leaves: wrapper(leaves, pooled), outputs)
    assert value == pytest.approx(expected[0] + 1, abs=1e-6)
    assert_same_gradients(gradients, expected[1])


@pytest.mark.parametrize("memory", MEMORY)
def test_ignored_voxels_count_as_if_they_were_cut_out(memory: torch.memory_format) -> None:
    """What the network says there changes neither value nor gradient; weights and Dice neither."""
    target = target_of(3, ignored=0.0)
    target[:, 4:] = IGNORE_ID
    weights = 0.5 + torch.rand(CLASSES, generator=torch.Generator().manual_seed(3))
    whole = logits_of(SHAPES[0], 3)
    part = whole[:, :, :4].contiguous(memory_format=memory)
    whole = whole.to(memory_format=memory)

    def loss(leaves: Sequence[Tensor], labels: Tensor) -> Tensor:
        return torch.stack(dice_cross_entropy(leaves[0], labels, weights)).sum()

    value, (gradient,) = value_and_gradients(loss, [whole], target)
    expected, (part_gradient,) = value_and_gradients(loss, [part], target[:, :4])
    assert value == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(gradient[:, :, :4], part_gradient, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("memory", MEMORY)
def test_a_batch_of_which_nothing_is_known_costs_nothing(memory: torch.memory_format) -> None:
    logits = [logits_of(SHAPES[0], 4).to(memory_format=memory)]
    target = torch.full((2, *SHAPES[0]), IGNORE_ID, dtype=torch.uint8)
    for mode in ("all", "present"):
        leaf = logits[0].clone().requires_grad_()
        dice, cross_entropy = dice_cross_entropy(leaf, target, WEIGHTS, mode)
        (dice + cross_entropy).backward()
        assert cross_entropy.item() == 0
        assert dice.item() == pytest.approx(0, abs=1e-6)  # 1 - (0 + smooth) / (0 + smooth)
        assert leaf.grad is not None
        assert not leaf.grad.any()


def test_pooling_keeps_what_is_known_and_ignores_blocks_without_it() -> None:
    target = torch.full((1, 4, 4, 4), IGNORE_ID, dtype=torch.uint8)
    target[0, 0, 0, 0], target[0, 1, 1, 1] = 3, 40
    target[0, :2, :2, 2:] = 0
    pooled = pool_labels(target, (2, 2, 2))
    assert pooled.dtype == torch.uint8
    assert pooled[0, 0, 0].tolist() == [40, 0]
    assert (pooled == IGNORE_ID).sum() == 6
