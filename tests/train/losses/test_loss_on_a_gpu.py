"""The segmentation loss as a GPU computes it, sample by sample, without one: on CPU and on meta.

A meta tensor has no numbers, so code that reads one back cannot run on it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.sizes import paper
from tests.operations import Operations
from uvlm.data.label_scheme import IGNORE_ID
from uvlm.estimates.imagined import Held
from uvlm.train.losses.dice_cross_entropy import SAMPLES, SLABS, Way, dice_cross_entropy, way_of
from uvlm.train.losses.dice_sums import Sums
from uvlm.train.losses.losses import deep_supervision_loss
from uvlm.train.losses.samples import add_samples

MEMORY = [torch.contiguous_format, torch.channels_last_3d]
DTYPES = [torch.float32, torch.bfloat16]
BATCH, CLASSES = 2, 49


def imagined_outputs(memory: torch.memory_format, dtype: torch.dtype, device: str) -> list[Tensor]:
    """Logits of every resolution at the paper's patch; on a CPU, of an eighth of its edges."""
    config = paper().params.train_seg
    shrink = 1 if device == "meta" else 8
    outputs = []
    for level in range(len(config.deep_supervision)):
        shape = [max(1, edge // shrink >> level) for edge in config.patch]
        logits = torch.zeros(BATCH, CLASSES, *shape, dtype=dtype, device=device)
        outputs.append(logits.to(memory_format=memory).requires_grad_())
    return outputs


def counted_step(memory: torch.memory_format, dtype: torch.dtype, device: str) -> Operations:
    """Forward and backward pass of the loss of one step."""
    config = paper().params.train_seg
    outputs = imagined_outputs(memory, dtype, device)
    target = torch.zeros(BATCH, *outputs[0].shape[2:], dtype=torch.uint8, device=device)
    weights = torch.ones(CLASSES, device=device)
    levels, classes = config.deep_supervision, config.dice_classes
    operations = Operations()
    with operations:
        terms = deep_supervision_loss(outputs, target, weights, levels, classes)
        torch.stack(list(terms.values())).sum().backward()
    assert [logits.grad is not None for logits in outputs] == [level > 0 for level in levels]
    return operations


@pytest.mark.slow
@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_of_the_paper_takes_at_most_600_operations_and_reads_nothing(
    memory: torch.memory_format, dtype: torch.dtype
) -> None:
    operations = counted_step(memory, dtype, "meta")
    assert operations.count.total() <= 600
    assert operations.host_reads == []


def test_what_is_counted_as_read_is_what_slabs_read() -> None:
    """On a CPU, where reading is free, the slabs of one step look whether all voxels are known."""
    reads = counted_step(torch.channels_last_3d, torch.float32, "cpu").host_reads
    assert {"_local_scalar_dense", "bincount"} <= set(reads)


def test_only_a_cpu_takes_slabs() -> None:
    ways = {name: way_of(torch.device(name)) for name in ("cpu", "cuda", "mps", "meta")}
    assert ways.pop("cpu") == SLABS
    assert set(ways.values()) == {SAMPLES}


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("dtype", DTYPES)
def test_beside_the_gradient_it_holds_a_sample_and_a_few_numbers_per_voxel(
    memory: torch.memory_format, dtype: torch.dtype
) -> None:
    patch = paper().params.train_seg.patch
    sample, voxels = 4 * CLASSES * prod(patch), BATCH * prod(patch)
    logits = torch.zeros(BATCH, CLASSES, *patch, dtype=dtype, device="meta")
    logits = logits.to(memory_format=memory).requires_grad_()
    target = torch.zeros(BATCH, *patch, dtype=torch.uint8, device="meta")
    with Held() as held:
        both = dice_cross_entropy(logits, target, torch.ones(CLASSES, device="meta"))
        torch.stack(both).sum().backward()
    copies = 1 if dtype == torch.float32 else 2
    assert held.peak <= 2 * logits.nbytes + copies * sample + 40 * voxels  # with the logits


def value_and_gradient(
    logits: Tensor, target: Tensor, weights: Tensor, classes: Any, way: Way
) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().requires_grad_()
    both = torch.stack(dice_cross_entropy(leaf, target, weights, classes, way))
    (both * torch.tensor([1.3, 0.7])).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.stride() == logits.stride()
    assert leaf.grad.dtype == logits.dtype
    return both.detach(), leaf.grad.float()


@st.composite
def batches(draw: Callable[[Any], Any]) -> tuple[Tensor, Tensor]:
    """Logits of both layouts and types, targets with unknown voxels and absent classes."""
    shape = tuple(draw(st.integers(1, edge)) for edge in (3, 7, 7, 7))
    num_classes, scale = draw(st.integers(2, 12)), draw(st.sampled_from([0.1, 3.0, 40.0]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31 - 1)))
    logits = scale * torch.randn(shape[0], num_classes, *shape[1:], generator=generator)
    target = torch.randint(draw(st.integers(1, num_classes)), shape, generator=generator)
    ignored = draw(st.sampled_from(["none", "some", "a sample", "all"]))
    unknown = torch.rand(shape, generator=generator) < {"some": 0.4, "all": 1.1}.get(ignored, 0.0)
    unknown[0] |= ignored == "a sample"
    logits = logits.to(draw(st.sampled_from(DTYPES)))
    logits = logits.to(memory_format=draw(st.sampled_from(MEMORY)))
    return logits, target.masked_fill(unknown, IGNORE_ID).to(torch.uint8)


@settings(max_examples=60, deadline=None)
@given(batch=batches(), classes=st.sampled_from(["all", "present"]))
def test_samples_and_slabs_agree(batch: tuple[Tensor, Tensor], classes: Any) -> None:
    logits, target = batch
    weights = torch.linspace(0.5, 1.5, logits.shape[1])
    value, gradient = value_and_gradient(logits, target, weights, classes, SAMPLES)
    expected, slabs_gradient = value_and_gradient(logits, target, weights, classes, SLABS)
    # Both round their logits to float32, so exp is off by the logit times its rounding error.
    size = max(1.0, float(logits.abs().max()))
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6 * size)
    rounding = 1e-6 * size if logits.dtype == torch.float32 else 1e-2
    assert (gradient - slabs_gradient).abs().max() <= rounding * slabs_gradient.abs().max()
    unknown = (target == IGNORE_ID)[:, None].expand_as(gradient)
    assert not gradient[unknown].any()


def test_logits_in_neither_layout_have_the_same_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 6, 4, 3, generator=generator)
    target = torch.randint(5, (2, 6, 4, 3), generator=generator).to(torch.uint8)
    odd = logits.transpose(2, 4).contiguous().transpose(2, 4)  # neither of the two
    found = []
    for leaf in (logits.requires_grad_(), odd.detach().requires_grad_()):
        torch.stack(dice_cross_entropy(leaf, target, torch.ones(5), way=SAMPLES)).sum().backward()
        found.append(leaf.grad)
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)


def test_voxels_are_counted_as_numpy_counts_them_and_in_any_order() -> None:
    """More than 2^24 ones would be needed to see float32 stop; integers have no such end."""
    rng = np.random.default_rng(0)
    labels = rng.choice(
        [0, 1, 2, 4, IGNORE_ID], size=(1, 6, 9, 11), p=[0.8, 0.05, 0.05, 0.05, 0.05]
    )
    target = torch.from_numpy(labels.astype(np.uint8))
    logits = torch.randn(1, 5, 6, 9, 11, generator=torch.Generator().manual_seed(1))
    found = []
    for flip in ([], [2, 3, 4]):
        sums = Sums.empty(torch.ones(5))
        add_samples(sums, logits.flip(flip), target.flip([axis - 1 for axis in flip]))
        found.append(sums)
    known = labels[labels != IGNORE_ID]
    assert found[0].truth.tolist() == np.bincount(known, minlength=5).tolist()
    assert torch.equal(found[0].overlap, found[1].overlap)
