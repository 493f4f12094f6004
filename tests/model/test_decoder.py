"""The language decoder: rotary positions, causality, KV cache."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from uvlm.config import DecoderConfig
from uvlm.errors import ConfigError
from uvlm.model.decoder import DecoderLayer, DecoderSizes, LanguageDecoder, rotary_tables, rotate


def sizes_of(c: DecoderConfig) -> DecoderSizes:
    return DecoderSizes(c.layers, c.width, c.heads, c.ffn, c.dropout)


@pytest.fixture
def decoder(decoder_config: DecoderConfig) -> LanguageDecoder:
    torch.manual_seed(0)
    decoder = LanguageDecoder(40, sizes_of(decoder_config), max_positions=20).eval()
    for parameter in decoder.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return decoder


def turned(x: Tensor, position: int) -> Tensor:
    """One vector, turned as if it stood at `position`."""
    return rotate(x, rotary_tables(4096, x.shape[-1])[:, position])


@settings(max_examples=25, deadline=None)
@given(
    first=st.integers(0, 2000),
    second=st.integers(0, 2000),
    shift=st.integers(0, 2000),
    seed=st.integers(0, 2**31),
)
def test_rotary_scores_depend_on_the_distance_only(
    first: int, second: int, shift: int, seed: int
) -> None:
    q, k = torch.randn(2, 16, generator=torch.Generator().manual_seed(seed))
    score = turned(q, first) @ turned(k, second)
    moved = turned(q, first + shift) @ turned(k, second + shift)
    assert float(moved) == pytest.approx(float(score), abs=2e-3)


@settings(max_examples=50, deadline=None)
@given(position=st.integers(0, 4095), seed=st.integers(0, 2**31))
def test_rotary_positions_leave_norms_unchanged(position: int, seed: int) -> None:
    x = torch.randn(16, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(turned(x, position).norm(), x.norm())


def test_rotary_positions_turn_pairs_by_known_angles() -> None:
    x = torch.tensor([1.0, 1.0, 0.0, 0.0])  # pairs (0, 2) and (1, 3)
    cos, sin = torch.tensor([3.0, 0.03]).cos(), torch.tensor([3.0, 0.03]).sin()
    torch.testing.assert_close(turned(x, 3), torch.cat([cos, sin]))


def test_the_decoder_is_blind_to_a_common_shift_of_all_positions(
    decoder: LanguageDecoder,
) -> None:
    hidden = torch.randn(1, 6, 16)
    layer = decoder.layers[0]
    outputs = [layer(hidden, decoder.rotation[:, s : s + 6], 3, None) for s in (0, 9)]
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=1e-5)


def test_text_never_sees_later_text_and_visual_tokens_never_see_text(
    decoder: LanguageDecoder,
) -> None:
    hidden = torch.randn(1, 9, 16)
    changed = hidden.clone()
    changed[:, 6] += torch.randn(16)
    before, after = decoder(hidden, {}, 4), decoder(changed, {}, 4)
    assert torch.equal(before[:, :6], after[:, :6])
    assert (before[:, 6:] - after[:, 6:]).abs().amax(-1).min() > 1e-4


def test_every_visual_token_reaches_every_other_and_all_text(decoder: LanguageDecoder) -> None:
    hidden = torch.randn(1, 9, 16)
    before = decoder(hidden, {}, 4)
    for token in range(4):
        changed = hidden.clone()
        changed[:, token] += torch.randn(16)
        moved = (decoder(changed, {}, 4) - before).abs().amax(-1)
        assert moved.min() > 1e-5, f"visual token {token} is not seen everywhere"


def test_cached_steps_equal_the_full_forward(decoder: LanguageDecoder) -> None:
    hidden = torch.randn(3, 12, 16)
    injections = {1: torch.randn(3, 3, 16), 5: torch.randn(3, 3, 16)}
    full = decoder(hidden, injections, 5)
    cache = decoder.new_cache(12)
    with torch.no_grad():
        outputs = [decoder(hidden[:, :5], injections, cache=cache)]
        outputs += [decoder(hidden[:, i : i + 1], {}, cache=cache) for i in range(5, 12)]
    torch.testing.assert_close(torch.cat(outputs, dim=1), full, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_half_precision_keeps_exact_rotations_and_a_cache_that_a_cpu_reads_fast(
    decoder: LanguageDecoder,
) -> None:
    rotation = decoder.rotation.clone()
    hidden = torch.randn(3, 12, 16)
    exact = decoder(hidden, {}, num_visual=5)
    decoder.bfloat16()
    assert torch.equal(decoder.rotation, rotation)
    half = hidden.bfloat16()
    cache = decoder.new_cache(12)
    outputs = [decoder(half[:, :5], {}, cache=cache)]
    outputs += [decoder(half[:, i : i + 1], {}, cache=cache) for i in range(5, 12)]
    written = torch.cat(outputs, dim=1)
    assert written.dtype == torch.bfloat16
    assert cache[0].dtype == torch.float32
    torch.testing.assert_close(written.float(), exact, atol=0.15, rtol=0.05)


def test_a_decoder_made_on_the_meta_device_has_its_tables_when_it_gets_memory(
    decoder_config: DecoderConfig,
) -> None:
    with torch.device("meta"):
        empty = LanguageDecoder(40, sizes_of(decoder_config), max_positions=20)
    filled = empty.to_empty(device="cpu")
    assert torch.equal(filled.rotation, rotary_tables(20, 8))


@torch.no_grad()
def test_cached_steps_under_autocast_equal_the_full_forward_under_autocast(
    decoder: LanguageDecoder,
) -> None:
    hidden = torch.randn(3, 12, 16)
    with torch.autocast("cpu", torch.bfloat16):
        full = decoder(hidden, {}, num_visual=5)
        cache = decoder.new_cache(12)
        outputs = [decoder(hidden[:, :5], {}, cache=cache)]
        outputs += [decoder(hidden[:, i : i + 1], {}, cache=cache) for i in range(5, 12)]
    torch.testing.assert_close(torch.cat(outputs, dim=1), full, atol=0.1, rtol=0.05)


def test_logits_are_products_with_the_embedding(decoder: LanguageDecoder) -> None:
    hidden = torch.randn(2, 3, 16)
    torch.testing.assert_close(decoder.logits(hidden), hidden @ decoder.embedding.weight.T)


def test_a_sequence_longer_than_the_tables_is_refused(decoder: LanguageDecoder) -> None:
    with pytest.raises(ConfigError, match="21 positions is longer than the 20"):
        decoder(torch.zeros(1, 21, 16), {})


def test_weights_start_scaled_to_their_inputs_and_smaller_before_the_residual(
    decoder_config: DecoderConfig,
) -> None:
    torch.manual_seed(0)
    wide = decoder_config.model_copy(update={"width": 64, "ffn": 256})
    decoder = LanguageDecoder(400, sizes_of(wide), max_positions=4).requires_grad_(False)
    layer = decoder.layers[0]
    assert isinstance(layer, DecoderLayer)
    assert float(decoder.embedding.weight.std()) == pytest.approx(1 / 8, rel=0.05)
    assert float(layer.qkv.weight.std()) == pytest.approx(1 / 8, rel=0.05)
    assert float(layer.ffn_out.weight.std()) == pytest.approx(1 / 16 / 4, rel=0.05)
    assert torch.count_nonzero(layer.qkv.bias) == 0
