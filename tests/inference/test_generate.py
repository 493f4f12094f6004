"""Writing reports: the cache against the full forward, batches against single rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from uvlm.config import DecoderConfig, EncoderConfig, InjectionConfig
from uvlm.errors import ConfigError
from uvlm.inference.generate import generate, pick
from uvlm.model.build import build_uvlm
from uvlm.model.uvlm import UVLM, SpecialIds

BOS, EOS = 3, 4
CHANNELS = (2, 3, 4)


@pytest.fixture
def model() -> UVLM:
    """Untrained, with weights that make rows differ and <eos> come at different times."""
    torch.set_num_threads(1)
    torch.manual_seed(3)
    encoder = EncoderConfig(channels=CHANNELS, strides=(1, 2, 2), blocks=(1, 1, 1), decoder_convs=1)
    decoder = DecoderConfig(
        kind="scratch",
        layers=4,
        width=16,
        heads=2,
        ffn=32,
        dropout=0.3,
        lora_rank=4,
        lora_alpha=8.0,
        lora_dropout=0.0,
        max_report_tokens=30,
    )
    injection = InjectionConfig(
        kind="multi_layer",
        reference_stage=3,
        layer_by_stage={3: 1, 2: 2, 1: 3},
        pooling="max",
        deeper="zeros",
        position="before_layer",
        gate="none",
        projection="linear",
        input_tokens="reference",
    )
    specials = SpecialIds(pad=0, start_of_image=1, end_of_image=2, bos=BOS, eos=EOS)
    model = build_uvlm(encoder, decoder, injection, (8, 8, 8), 12, specials)
    for weight in model.parameters():
        weight.data.add_(0.4 * torch.randn_like(weight))
    return model


@pytest.fixture
def visual() -> list[Tensor]:
    torch.manual_seed(0)
    return [3 * torch.randn(6, 8, channels) for channels in CHANNELS]


@torch.no_grad()
def greedy_without_cache(model: UVLM, visual: list[Tensor], max_tokens: int) -> list[int]:
    """One row, the whole sequence again for every token."""
    model.eval()
    tokens = [BOS]
    while len(tokens) <= max_tokens:
        chosen = int(model(visual, torch.tensor([tokens]))[0, -1].argmax())
        if chosen == EOS:
            break
        tokens.append(chosen)
    return tokens[1:]


def row(visual: list[Tensor], case: int) -> list[Tensor]:
    return [tokens[case : case + 1] for tokens in visual]


def test_greedy_reports_equal_those_written_without_a_cache(
    model: UVLM, visual: list[Tensor]
) -> None:
    reports = generate(model, visual, 16, BOS, EOS)
    assert reports == [greedy_without_cache(model, row(visual, case), 16) for case in range(6)]
    assert len({tuple(report) for report in reports}) > 1
    assert len({len(report) for report in reports}) > 1


def test_a_batch_writes_what_its_rows_write_alone(model: UVLM, visual: list[Tensor]) -> None:
    batch = generate(model, visual, 16, BOS, EOS)
    assert batch == [generate(model, row(visual, case), 16, BOS, EOS)[0] for case in range(6)]


def test_reports_end_before_eos_or_at_the_limit(model: UVLM, visual: list[Tensor]) -> None:
    for limit in (1, 5, 16):
        for report in generate(model, visual, limit, BOS, EOS):
            assert len(report) <= limit
            assert EOS not in report
            assert BOS not in report[:1]


def test_a_limit_beyond_the_position_tables_is_refused(model: UVLM, visual: list[Tensor]) -> None:
    with pytest.raises(ConfigError, match=r"decoder\.max_report_tokens"):
        generate(model, visual, 100, BOS, -1)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_while_writing_and_the_mode_is_put_back(
    model: UVLM, visual: list[Tensor], training: bool
) -> None:
    model.train(training)
    assert generate(model, visual, 8, BOS, EOS) == generate(model, visual, 8, BOS, EOS)
    assert model.training is training


def test_sampling_is_reproducible_and_approaches_greedy_when_cold(
    model: UVLM, visual: list[Tensor]
) -> None:
    def sample(seed: int, temperature: float) -> list[list[int]]:
        source = torch.Generator().manual_seed(seed)
        return generate(model, visual, 12, BOS, EOS, temperature, source)

    assert sample(0, 2.0) == sample(0, 2.0)
    assert sample(0, 2.0) != sample(1, 2.0)
    assert sample(0, 1e-4) == generate(model, visual, 12, BOS, EOS)


def test_tokens_are_drawn_as_often_as_their_probability_says() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log() * 2.0
    drawn = pick(logits.expand(20_000, 3), 2.0, torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=3) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.2]), atol=0.02, rtol=0)
