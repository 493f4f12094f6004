"""Recomputed blocks give the same gradients from less memory."""

from __future__ import annotations

import multiprocessing

import pytest
import torch
from torch import Tensor

from benchmarks import measure
from uvlm.config import EncoderConfig
from uvlm.model.build import build_encoder, build_unet
from uvlm.model.weights import weights_of
from uvlm.train.loop.memory import recompute_blocks

ENCODER = EncoderConfig(channels=(8, 16, 16), strides=(1, 2, 1), blocks=(1, 3, 2), decoder_convs=1)


def gradients(recomputed: bool, frozen: bool = False) -> tuple[dict[str, Tensor], list[str]]:
    torch.manual_seed(0)
    unet = build_unet(ENCODER, 3, deep_supervision=False)
    names = list(weights_of(unet))
    if frozen:
        unet.encoder.stages[0].requires_grad_(False)
    if recomputed:
        recompute_blocks(unet.encoder)
    assert list(weights_of(unet)) == names
    x = torch.randn(2, 1, 8, 8, 8)
    unet(x).square().mean().backward()
    found = {name: p.grad for name, p in unet.named_parameters() if p.grad is not None}
    return found, names


@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_are_identical_bit_for_bit(frozen: bool) -> None:
    plain, _ = gradients(recomputed=False, frozen=frozen)
    recomputed, names = gradients(recomputed=True, frozen=frozen)
    assert recomputed.keys() == plain.keys()
    first_stage = [name for name in names if name.startswith("encoder.stages.0.")]
    assert not plain.keys() & first_stage if frozen else plain.keys() >= set(first_stage)
    assert all(torch.equal(recomputed[name], plain[name]) for name in plain)
    assert any(gradient.any() for gradient in plain.values())


def growth_of_a_step(recomputed: bool) -> float:
    """MB that the peak rises by in a forward and backward pass, once the kernels are loaded."""
    torch.set_num_threads(1)
    encoder = build_encoder(
        EncoderConfig(channels=(8,), strides=(1,), blocks=(12,), decoder_convs=1)
    )
    if recomputed:
        recompute_blocks(encoder)

    def step(x: Tensor) -> None:
        encoder(x)[-1].mean().backward()

    step(torch.zeros(1, 1, 8, 8, 8))
    return measure._grow(step, (torch.zeros(1, 1, 32, 64, 64),), None)


@pytest.mark.slow
def test_a_step_of_many_blocks_needs_a_third_less_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")  # what is freed goes back at once
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        plain, recomputed = pool.map(growth_of_a_step, [False, True], chunksize=1)
    assert recomputed < 0.67 * plain, (recomputed, plain)
