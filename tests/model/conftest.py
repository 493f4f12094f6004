"""Tiny modules with the paper's structure: six stages, eight layers, injection of every stage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from uvlm.config import DecoderConfig, EncoderConfig, InjectionConfig
from uvlm.model.build import build_uvlm
from uvlm.model.uvlm import UVLM, SpecialIds

GRID = (8, 16, 16)
SPECIALS = SpecialIds(pad=0, start_of_image=1, end_of_image=2, bos=3, eos=4)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def encoder_config() -> EncoderConfig:
    """Grids 8x16x16, 4x8x8, 2x4x4, 2x4x4, 1x2x2, 1x2x2."""
    return EncoderConfig(
        channels=(2, 3, 4, 5, 6, 8),
        strides=(1, 2, 2, 1, 2, 1),
        blocks=(1, 2, 1, 1, 1, 1),
        decoder_convs=1,
    )


@pytest.fixture
def decoder_config() -> DecoderConfig:
    return DecoderConfig(
        kind="scratch",
        layers=8,
        width=16,
        heads=2,
        ffn=32,
        dropout=0.1,
        lora_rank=4,
        lora_alpha=8.0,
        lora_dropout=0.0,
        max_report_tokens=24,
    )


@pytest.fixture
def injection_config() -> InjectionConfig:
    """Stage 4 is the reference: K = 32; stages 5 and 6 have 4 tokens and 28 zeros."""
    return InjectionConfig(
        kind="multi_layer",
        reference_stage=4,
        layer_by_stage={6: 1, 5: 2, 4: 3, 3: 4, 2: 5, 1: 6},
        pooling="max",
        deeper="zeros",
        position="before_layer",
        gate="none",
        projection="linear",
        input_tokens="reference",
    )


@pytest.fixture
def uvlm(
    encoder_config: EncoderConfig, decoder_config: DecoderConfig, injection_config: InjectionConfig
) -> UVLM:
    """An untrained model with weights large enough that every path matters."""
    torch.manual_seed(0)
    model = build_uvlm(encoder_config, decoder_config, injection_config, GRID, 40, SPECIALS)
    for weight in model.parameters():
        weight.data.add_(0.1 * torch.randn_like(weight))
    return model.eval()


@pytest.fixture
def visual(encoder_config: EncoderConfig) -> list[Tensor]:
    """Aligned tokens of two cases, padded as `align` pads them."""
    torch.manual_seed(1)
    tokens = [torch.randn(2, 32, channels) for channels in encoder_config.channels]
    for deeper in tokens[4:]:
        deeper[:, 4:] = 0
    return tokens


@pytest.fixture
def token_ids() -> Tensor:
    """<bos> report <eos> for two cases, the second padded to the right."""
    return torch.tensor([[3, 9, 17, 30, 12, 8, 4], [3, 25, 11, 4, 0, 0, 0]])
