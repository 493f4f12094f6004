"""UVLM: the sequence, what reaches the logits, and what the loss sees."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from uvlm.config import DecoderConfig, EncoderConfig, InjectionConfig
from uvlm.errors import ConfigError, SetupError
from uvlm.model.build import build_uvlm
from uvlm.model.decoder import LanguageDecoder
from uvlm.model.inject import inject
from uvlm.model.uvlm import UVLM, SpecialIds

GRID = (8, 16, 16)
SPECIALS = SpecialIds(pad=0, start_of_image=1, end_of_image=2, bos=3, eos=4)


def cached_logits(model: UVLM, visual: list[Tensor], token_ids: Tensor) -> Tensor:
    """The logits (B, T, V) of `forward`, one token at a time."""
    cache = model.prefill(visual, capacity=token_ids.shape[1])
    return torch.stack([model.next_logits(ids, cache) for ids in token_ids.T], dim=1)


def variant(
    configs: tuple[EncoderConfig, DecoderConfig, InjectionConfig], **injection: str
) -> UVLM:
    encoder, decoder, plan = configs
    changed = plan.model_copy(update=injection)
    torch.manual_seed(0)
    model = build_uvlm(encoder, decoder, changed, GRID, 40, SPECIALS).eval()
    for weight in model.parameters():
        weight.data.add_(0.1 * torch.randn_like(weight))
    return model


@pytest.fixture
def configs(
    encoder_config: EncoderConfig, decoder_config: DecoderConfig, injection_config: InjectionConfig
) -> tuple[EncoderConfig, DecoderConfig, InjectionConfig]:
    return encoder_config, decoder_config, injection_config


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("stage", [1, 2, 3, 4, 5, 6])
@torch.no_grad()
def test_every_stage_reaches_the_logits(
    uvlm: UVLM, visual: list[Tensor], token_ids: Tensor, stage: int, cached: bool
) -> None:
    run = cached_logits if cached else UVLM.__call__
    before = run(uvlm, visual, token_ids)
    visual[stage - 1][:, 1] += 1.0
    after = run(uvlm, visual, token_ids)
    assert (after - before).abs().amax(-1).min() > 1e-5


@torch.no_grad()
def test_cached_decoding_equals_the_full_forward(
    uvlm: UVLM, visual: list[Tensor], token_ids: Tensor
) -> None:
    full = uvlm(visual, token_ids)
    torch.testing.assert_close(cached_logits(uvlm, visual, token_ids), full, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_forward_follows_equation_5_layer_by_layer(
    uvlm: UVLM, visual: list[Tensor], token_ids: Tensor
) -> None:
    decoder = uvlm.decoder
    assert isinstance(decoder, LanguageDecoder)
    projected = {s: uvlm.projections[str(s)](visual[s - 1]) for s in range(1, 7)}
    framing = decoder.embed(torch.tensor([[1, 2], [1, 2]]))
    hidden = torch.cat(
        [framing[:, :1], projected[4], framing[:, 1:], decoder.embed(token_ids)], dim=1
    )
    length = hidden.shape[1]
    rotation = decoder.rotation[:, :length]
    for layer_number, layer in enumerate(decoder.layers, start=1):
        stage = 6 - layer_number + 1
        if stage >= 1:
            hidden = inject(hidden, projected[stage])
        hidden = layer(hidden, rotation, 34, None)
    expected = decoder.norm(hidden)[:, 34:] @ decoder.embedding.weight.T
    torch.testing.assert_close(uvlm(visual, token_ids), expected)


@torch.no_grad()
def test_input_only_uses_the_reference_stage_alone(
    configs: tuple[EncoderConfig, DecoderConfig, InjectionConfig],
    visual: list[Tensor],
    token_ids: Tensor,
) -> None:
    model = variant(configs, kind="input_only")
    assert list(model.projections) == ["4"]
    before = model(visual, token_ids)
    noisy = [tokens + 1.0 for tokens in visual]
    noisy[3] = visual[3]
    assert torch.equal(model(noisy, token_ids), before)
    visual[3] = visual[3] + 1.0
    assert not torch.allclose(model(visual, token_ids), before)


@torch.no_grad()
def test_zero_input_tokens_leave_the_injections(
    configs: tuple[EncoderConfig, DecoderConfig, InjectionConfig],
    visual: list[Tensor],
    token_ids: Tensor,
) -> None:
    zeros, reference = variant(configs, input_tokens="zeros"), variant(configs)
    assert zeros.state_dict().keys() == reference.state_dict().keys()
    assert not torch.allclose(zeros(visual, token_ids), reference(visual, token_ids))
    before = zeros(visual, token_ids)
    visual[3] = visual[3] + 1.0
    assert not torch.allclose(zeros(visual, token_ids), before)


@torch.no_grad()
def test_padding_of_deeper_stages_never_reaches_the_logits(
    uvlm: UVLM, visual: list[Tensor], token_ids: Tensor
) -> None:
    before = uvlm(visual, token_ids)
    visual[5][:, 4:] = 9.0
    assert torch.equal(uvlm(visual, token_ids), before)


@torch.no_grad()
def test_a_batch_gives_the_logits_of_its_rows_at_any_padding(
    uvlm: UVLM, visual: list[Tensor], token_ids: Tensor
) -> None:
    batch = uvlm(visual, token_ids)
    for case, length in ((0, 7), (1, 4), (1, 6)):
        alone = uvlm([tokens[case : case + 1] for tokens in visual], token_ids[case, :length][None])
        torch.testing.assert_close(batch[case, :length], alone[0], atol=1e-5, rtol=1e-5)


def test_the_states_to_predict_from_hold_the_report_and_its_end_but_no_padding(
    uvlm: UVLM, visual: list[Tensor], token_ids: Tensor
) -> None:
    hidden, targets = uvlm.target_hidden(visual, token_ids)
    assert targets.tolist() == [9, 17, 30, 12, 8, 4, 25, 11, 4]
    full = uvlm(visual, token_ids)
    expected = torch.cat([full[0, :6], full[1, :3]])
    torch.testing.assert_close(uvlm.decoder.logits(hidden), expected, atol=1e-5, rtol=1e-5)


def test_the_loss_reaches_every_weight(uvlm: UVLM, visual: list[Tensor], token_ids: Tensor) -> None:
    hidden, targets = uvlm.target_hidden(visual, token_ids)
    torch.nn.functional.cross_entropy(uvlm.decoder.logits(hidden), targets).backward()
    idle = [n for n, p in uvlm.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@pytest.mark.slow
def test_a_small_model_learns_to_say_what_it_sees(
    configs: tuple[EncoderConfig, DecoderConfig, InjectionConfig], visual: list[Tensor]
) -> None:
    """Two cases that differ in stage 1 only; the same words cannot fit both."""
    for tokens in visual[1:]:
        tokens[1] = tokens[0]
    encoder, decoder, plan = configs
    torch.manual_seed(0)
    still = decoder.model_copy(update={"dropout": 0.0})
    model = build_uvlm(encoder, still, plan, GRID, 40, SPECIALS)
    token_ids = torch.tensor([[3, 9, 17, 4], [3, 25, 11, 4]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        hidden, targets = model.target_hidden(visual, token_ids)
        loss = torch.nn.functional.cross_entropy(model.decoder.logits(hidden), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if float(loss.detach()) < 0.02:
            break
    assert float(loss.detach()) < 0.1


def test_a_qwen_decoder_without_its_folder_says_which_variable_to_set(
    configs: tuple[EncoderConfig, DecoderConfig, InjectionConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UVLM_QWEN3", raising=False)
    encoder, decoder, plan = configs
    qwen = decoder.model_copy(update={"kind": "qwen3_lora"})
    with pytest.raises(SetupError, match="UVLM_QWEN3: is not set"):
        build_uvlm(encoder, qwen, plan, GRID, 40, SPECIALS)


def test_a_decoder_that_would_see_no_image_is_refused(
    configs: tuple[EncoderConfig, DecoderConfig, InjectionConfig],
) -> None:
    with pytest.raises(ConfigError, match="no visual feature reaches the decoder"):
        variant(configs, kind="input_only", input_tokens="zeros")
