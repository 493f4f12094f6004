"""Recomputed blocks give the same gradients from less memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.measure import peak_growth_mb
from uvlm.config import EncoderConfig
from uvlm.model.unet import build_encoder, build_unet
from uvlm.model.weights import weights_of
from uvlm.train.recompute import recompute_blocks

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


def one_step(recomputed: bool) -> None:
    torch.set_num_threads(1)
    config = EncoderConfig(channels=(8,), strides=(1,), blocks=(24,), decoder_convs=1)
    encoder = build_encoder(config)
    if recomputed:
        recompute_blocks(encoder)
    encoder(torch.zeros(1, 1, 32, 64, 64))[-1].mean().backward()


@pytest.mark.slow
def test_a_step_of_many_blocks_needs_half_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")  # what is freed goes back at once
    plain, recomputed = (peak_growth_mb(one_step, flag) for flag in (False, True))
    assert recomputed < 0.6 * plain, (recomputed, plain)
