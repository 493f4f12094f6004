"""Injection reaches the output by every path: both decoders, both positions, each stage alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tiny_qwen import SIZES, write_qwen
from uvlm.config import DecoderConfig, EncoderConfig, InjectionConfig
from uvlm.model.build import build_uvlm
from uvlm.model.decoder import LanguageDecoder
from uvlm.model.inject import FIRST_VISUAL
from uvlm.model.qwen import QwenDecoder
from uvlm.model.uvlm import UVLM, SpecialIds

GRID = (8, 16, 16)
SPECIALS = SpecialIds(pad=0, start_of_image=1, end_of_image=2, bos=3, eos=4)
KINDS = ("scratch", "qwen3_full", "qwen3_lora")
POSITIONS = ("before_layer", "after_attention")
Build = Callable[..., UVLM]


@pytest.fixture
def build(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    encoder_config: EncoderConfig,
    decoder_config: DecoderConfig,
    injection_config: InjectionConfig,
) -> Build:
    """Build a model of a kind, with other injection than the fixture's where asked."""
    monkeypatch.setenv("UVLM_QWEN3", str(tmp_path / "qwen"))

    def made(kind: str, **injection: Any) -> UVLM:
        if kind != "scratch":
            write_qwen(tmp_path / "qwen")
        decoder = decoder_config.model_copy(update={"kind": kind, **SIZES})
        plan = injection_config.model_copy(update=injection)
        torch.manual_seed(0)
        model = build_uvlm(encoder_config, decoder, plan, GRID, 40, SPECIALS).eval()
        for weight in model.parameters():
            if weight.requires_grad:
                weight.data.add_(0.1 * torch.randn_like(weight))
        return model

    return made


def eager(model: UVLM, visual: list[Tensor], token_ids: Tensor) -> Tensor:
    logits: Tensor = model(visual, token_ids)
    return logits


def cached(model: UVLM, visual: list[Tensor], token_ids: Tensor) -> Tensor:
    cache = model.prefill(visual, capacity=token_ids.shape[1])
    return torch.stack([model.next_logits(ids, cache) for ids in token_ids.T], dim=1)


def one_by_one(model: UVLM, visual: list[Tensor], token_ids: Tensor) -> Tensor:
    """Rows alone, put together again: what `batched` is held against."""
    rows = [
        model([tokens[case : case + 1] for tokens in visual], token_ids[case : case + 1])
        for case in range(len(token_ids))
    ]
    return torch.cat(rows)


@pytest.mark.slow
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_stage_reaches_the_logits_and_all_paths_agree(
    build: Build, visual: list[Tensor], token_ids: Tensor, kind: str, position: str
) -> None:
    model = build(kind, position=position)
    before = eager(model, visual, token_ids)
    for run in (cached, one_by_one):
        torch.testing.assert_close(run(model, visual, token_ids), before, atol=1e-5, rtol=1e-5)
    for stage in range(1, 7):
        changed = [tokens.clone() for tokens in visual]
        changed[stage - 1][:, 1] += 1.0
        moved = eager(model, changed, token_ids)
        assert (moved - before).abs().amax(-1).min() > 1e-5, f"stage {stage} is lost"
        for run in (cached, one_by_one):
            torch.testing.assert_close(run(model, changed, token_ids), moved, atol=1e-5, rtol=1e-5)


# Inductor imports a module of torch that warns about itself, and torch warns of Python 3.13.0.
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("kind", "position", "backend"),
    [
        # the traced graph, run operator by operator
        *((kind, "before_layer", "aot_eager") for kind in KINDS),
        ("scratch", "after_attention", "aot_eager"),
        ("qwen3_full", "after_attention", "aot_eager"),
        ("qwen3_lora", "after_attention", "aot_eager"),
        ("scratch", "before_layer", "inductor"),  # generated C++
    ],
)
@pytest.mark.slow
@torch.no_grad()
def test_every_stage_reaches_the_logits_of_a_compiled_model(
    build: Build,
    visual: list[Tensor],
    token_ids: Tensor,
    kind: str,
    position: str,
    backend: str,
) -> None:
    model = build(kind, position=position)
    torch._dynamo.reset()
    fast = torch.compile(model, backend=backend, dynamic=False)
    before = fast(visual, token_ids)
    torch.testing.assert_close(before, eager(model, visual, token_ids), atol=1e-5, rtol=1e-5)
    for stage in range(1, 7):
        changed = [tokens.clone() for tokens in visual]
        changed[stage - 1][:, 1] += 1.0
        moved = fast(changed, token_ids)
        expected = eager(model, changed, token_ids)
        torch.testing.assert_close(moved, expected, atol=1e-5, rtol=1e-5)
        assert (moved - before).abs().amax(-1).min() > 1e-5, f"stage {stage} is lost"


def layers_of(model: UVLM) -> list[nn.Module]:
    decoder = model.decoder
    assert isinstance(decoder, LanguageDecoder | QwenDecoder)
    inner = decoder if isinstance(decoder, LanguageDecoder) else decoder.model.model
    return list(inner.layers)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_text_passes_the_injection_bit_for_bit_and_visual_positions_get_the_projection(
    build: Build, visual: list[Tensor], token_ids: Tensor, kind: str
) -> None:
    """What leaves layer j - 1 and what enters layer j differ by Proj(Align(f)) on K positions."""
    model = build(kind)
    left: list[Tensor] = []
    entered: list[Tensor] = []
    for layer in layers_of(model):
        layer.register_forward_pre_hook(lambda _, arguments: entered.append(arguments[0]))
        layer.register_forward_hook(lambda _, __, out: left.append(out))
    model(visual, token_ids)
    text = slice(FIRST_VISUAL + 32, None)  # end of image, then the report
    for number in range(2, 9):
        before, after = left[number - 2], entered[number - 1]
        for untouched in (slice(0, FIRST_VISUAL), text):
            assert torch.equal(
                before[:, untouched].contiguous().view(torch.int32),
                after[:, untouched].contiguous().view(torch.int32),
            )
        if number <= 6:
            stage = 6 - number + 1
            projected = model.projections[str(stage)](visual[stage - 1])
            expected = before[:, FIRST_VISUAL : FIRST_VISUAL + 32] + projected
            assert torch.equal(after[:, FIRST_VISUAL : FIRST_VISUAL + 32], expected)
        else:
            assert torch.equal(before, after)


QWEN_PARTS = ("input_layernorm", "self_attn.o_proj", "post_attention_layernorm")
FIRST_NORM_ATTENTION_NEXT_NORM = {
    "scratch": ("attention_norm", "attention_out", "ffn_norm"),
    "qwen3_full": QWEN_PARTS,
    "qwen3_lora": QWEN_PARTS,
}


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_text_passes_the_injection_after_attention_bit_for_bit(
    build: Build, visual: list[Tensor], token_ids: Tensor, kind: str
) -> None:
    """Text enters the feed-forward's norm as layer plus attention, visual positions with Proj."""
    model = build(kind, position="after_attention")
    entered: list[Tensor] = []
    attended: list[Tensor] = []
    normed: list[Tensor] = []
    first, attention, norm = FIRST_NORM_ATTENTION_NEXT_NORM[kind]
    for layer in layers_of(model):
        layer.get_submodule(first).register_forward_pre_hook(
            lambda _, arguments: entered.append(arguments[0])
        )
        layer.get_submodule(attention).register_forward_hook(
            lambda _, __, out: attended.append(out)
        )
        layer.get_submodule(norm).register_forward_pre_hook(
            lambda _, arguments: normed.append(arguments[0])
        )
    model(visual, token_ids)
    tokens, text = slice(FIRST_VISUAL, FIRST_VISUAL + 32), slice(FIRST_VISUAL + 32, None)
    assert len(entered) == len(attended) == len(normed) == 8
    for number in range(1, 9):
        plain, after = entered[number - 1] + attended[number - 1], normed[number - 1]
        for untouched in (slice(0, FIRST_VISUAL), text):
            assert torch.equal(
                plain[:, untouched].contiguous().view(torch.int32),
                after[:, untouched].contiguous().view(torch.int32),
            )
        if number <= 6:
            stage = 6 - number + 1
            projected = model.projections[str(stage)](visual[stage - 1])
            assert projected[:, :4].abs().amax(-1).min() > 1e-3
            added = after[:, tokens] - plain[:, tokens]
            torch.testing.assert_close(added, projected, atol=1e-5, rtol=1e-5)
        else:
            assert torch.equal(plain, after)


@pytest.mark.parametrize("kind", ["scratch", "qwen3_full"])
@torch.no_grad()
def test_the_two_positions_are_not_the_same(
    build: Build, visual: list[Tensor], token_ids: Tensor, kind: str
) -> None:
    before, after = (build(kind, position=position) for position in POSITIONS)
    assert before.state_dict().keys() == after.state_dict().keys()
    assert not torch.allclose(before(visual, token_ids), after(visual, token_ids), atol=1e-3)


@torch.no_grad()
def test_after_attention_our_layer_adds_between_its_two_parts(build: Build) -> None:
    decoder = build("scratch", position="after_attention").decoder
    assert isinstance(decoder, LanguageDecoder)
    hidden, visual = torch.randn(2, 6, 16), torch.randn(2, 3, 16)
    rotation = decoder.rotation[:, :6]
    layer: Any = decoder.layers[0]
    expected = hidden + layer._attend(hidden, rotation, None, None)
    for token in range(3):
        expected[:, 1 + token] += visual[:, token]
    inner = torch.nn.functional.gelu(layer.ffn_in(layer.ffn_norm(expected)))
    expected = expected + layer.ffn_out(inner)
    torch.testing.assert_close(layer(hidden, rotation, None, None, visual), expected)


@pytest.mark.parametrize("kind", ["scratch", "qwen3_lora"])
def test_gates_start_open_learn_and_close(
    build: Build, visual: list[Tensor], token_ids: Tensor, kind: str
) -> None:
    plain, gated = build(kind), build(kind, gate="scalar")
    assert sorted(gated.gates) == ["1", "2", "3", "4", "5", "6"]
    for gate in gated.gates.values():
        gate.data.fill_(1.0)
    with torch.no_grad():
        own = plain.state_dict()
        gated.load_state_dict(gated.state_dict() | own)
        assert torch.equal(gated(visual, token_ids), plain(visual, token_ids))
    hidden, targets = gated.target_hidden(visual, token_ids)
    torch.nn.functional.cross_entropy(gated.decoder.logits(hidden), targets).backward()
    assert all(gate.grad is not None and gate.grad != 0 for gate in gated.gates.values())
    with torch.no_grad():
        before = gated(visual, token_ids)
        gated.gates["6"].data.zero_()  # stage 1 feeds layer 6 and nothing else
        after = gated(visual, token_ids)
        assert not torch.allclose(before, after, atol=1e-4)
        visual[0] = visual[0] + 1.0
        assert torch.equal(gated(visual, token_ids), after)


@pytest.mark.parametrize("kind", ["none", "scalar"])
def test_a_fresh_gate_is_equation_5(
    build: Build, encoder_config: EncoderConfig, decoder_config: DecoderConfig,
    injection_config: InjectionConfig, kind: str,
) -> None:  # fmt: skip
    plan = injection_config.model_copy(update={"gate": kind})
    model = build_uvlm(encoder_config, decoder_config, plan, GRID, 40, SPECIALS)
    assert [float(gate.detach()) for gate in model.gates.values()] == [1.0] * (
        6 * (kind == "scalar")
    )


@torch.no_grad()
def test_the_map_decides_which_layer_gets_which_stage(
    build: Build, visual: list[Tensor], token_ids: Tensor
) -> None:
    model = build("scratch", layer_by_stage={6: 8}, input_tokens="zeros")
    assert model.plan == {8: 6}
    assert list(model.projections) == ["6"]
    entered: list[Tensor] = []
    for layer in layers_of(model):
        layer.register_forward_pre_hook(lambda _, arguments: entered.append(arguments[0]))
    model(visual, token_ids)
    model([tokens + 1.0 for tokens in visual], token_ids)
    same = [torch.equal(entered[j], entered[j + 8]) for j in range(8)]
    assert same == [True] * 7 + [False]
