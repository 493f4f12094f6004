"""The Qwen3 path: transformers' own numbers, our injection and cache, peft's adapter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.tiny_qwen import LAYERS, SIZES, write_qwen
from uvlm.config import DecoderConfig
from uvlm.errors import ConfigError, DataError, SetupError
from uvlm.model.build import build_qwen
from uvlm.model.pretrained import find_qwen, qwen_trained_on
from uvlm.model.qwen import LORA_TARGETS, QwenDecoder
from uvlm.model.weights import load_weights, weights_of

TOKENS = 40


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UVLM_QWEN3", str(tmp_path / "qwen"))
    return write_qwen(tmp_path / "qwen", spare_rows=3)


def config_of(kind: str, **changes: Any) -> DecoderConfig:
    document: dict[str, Any] = {"kind": kind, "dropout": 0.0, "lora_rank": 4, "lora_alpha": 8.0}
    document |= {"lora_dropout": 0.0, "max_report_tokens": 24}
    return DecoderConfig(**(document | SIZES | changes))


def build(kind: str, position: Any = "before_layer", **changes: Any) -> QwenDecoder:
    return build_qwen(config_of(kind, **changes), find_qwen(), TOKENS, position).eval()


def moved(decoder: QwenDecoder) -> QwenDecoder:
    """An adapter that has learned something: B starts at zero."""
    torch.manual_seed(5)
    for name, weight in decoder.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.3)
    return decoder


@pytest.fixture
def theirs(folder: Path) -> Any:
    from transformers import Qwen3ForCausalLM

    return Qwen3ForCausalLM.from_pretrained(folder).eval()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen3_full", "qwen3_lora"])
@torch.no_grad()
def test_with_a_causal_mask_and_no_image_it_is_transformers_qwen3(theirs: Any, kind: str) -> None:
    decoder = build(kind)
    ids = torch.randint(0, TOKENS, (2, 11), generator=torch.Generator().manual_seed(0))
    expected = theirs(ids).logits[..., :TOKENS]
    hidden = decoder(decoder.embed(ids), {}, num_visual=0)
    torch.testing.assert_close(decoder.logits(hidden), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_its_cached_greedy_tokens_are_those_of_transformers_generate(theirs: Any) -> None:
    decoder = build("qwen3_full")
    for prompt in ([3, 17, 9], [30], [8, 8, 25, 1, 2]):
        given = torch.tensor([prompt])
        expected = theirs.generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=20,
            do_sample=False,
            pad_token_id=0,
            suppress_tokens=list(range(TOKENS, theirs.config.vocab_size)),
        )[0].tolist()
        cache = decoder.new_cache(len(prompt) + 20)
        hidden = decoder(decoder.embed(given), {}, 0, cache)
        written = [*prompt]
        for _ in range(20):
            written.append(int(decoder.logits(hidden[:, -1]).argmax()))
            hidden = decoder(decoder.embed(torch.tensor([written[-1:]])), {}, cache=cache)
        assert written == expected


@torch.no_grad()
def test_without_a_mask_every_position_looks_everywhere(folder: Path) -> None:
    decoder = build("qwen3_full")
    hidden = torch.randn(1, 6, 16)
    torch.testing.assert_close(decoder(hidden, {}), decoder(hidden, {}, num_visual=6))
    before = decoder(hidden, {})
    hidden[:, -1] += 1.0
    assert (decoder(hidden, {}) - before).abs().amax(-1).min() > 1e-5


@pytest.mark.parametrize("position", ["before_layer", "after_attention"])
@torch.no_grad()
def test_cached_steps_equal_the_full_forward(folder: Path, position: str) -> None:
    decoder = build("qwen3_full", position)
    hidden = torch.randn(3, 12, 16)
    injections = {1: torch.randn(3, 3, 16), 5: torch.randn(3, 3, 16)}
    full = decoder(hidden, injections, num_visual=5)
    cache = decoder.new_cache(12)
    outputs = [decoder(hidden[:, :5], injections, cache=cache)]
    outputs += [decoder(hidden[:, i : i + 1], {}, cache=cache) for i in range(5, 12)]
    torch.testing.assert_close(torch.cat(outputs, dim=1), full, atol=1e-5, rtol=1e-5)


def naive_layer(layer: Any, hidden: Tensor, model: Any, visual: Tensor) -> Tensor:
    """One Qwen3 layer in its two halves, the visual part added between them."""
    positions = torch.arange(hidden.shape[1])[None]
    rotation = model.rotary_emb(hidden, positions)
    mask = torch.ones(1, 1, hidden.shape[1], hidden.shape[1], dtype=torch.bool)
    attended, _ = layer.self_attn(
        layer.input_layernorm(hidden), position_embeddings=rotation, attention_mask=mask
    )
    hidden = hidden + attended
    for token in range(visual.shape[1]):
        hidden[:, 1 + token] += visual[:, token]
    out: Tensor = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return out


@torch.no_grad()
def test_after_attention_adds_between_attention_and_feed_forward(folder: Path) -> None:
    decoder = build("qwen3_full", "after_attention")
    hidden, visual = torch.randn(2, 6, 16), torch.randn(2, 3, 16)
    inner = decoder.model.model
    expected = hidden
    for number, layer in enumerate(inner.layers, start=1):
        added = visual if number == 3 else torch.zeros(2, 3, 16)
        expected = naive_layer(layer, expected, inner, added)
    expected = inner.norm(expected)
    torch.testing.assert_close(decoder(hidden, {3: visual}), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(decoder(hidden, {}), decoder(hidden, {3: 0 * visual}))


def test_an_adapter_trains_alone_and_is_all_that_a_state_holds(folder: Path) -> None:
    decoder = moved(build("qwen3_lora"))
    trained = {n for n, p in decoder.named_parameters() if p.requires_grad}
    assert len(trained) == LAYERS * len(LORA_TARGETS) * 2
    assert all("lora_" in name for name in trained)
    assert set(weights_of(decoder)) == trained
    decoder.logits(decoder(torch.randn(1, 5, 16), {})).square().sum().backward()
    for name, parameter in decoder.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == (name in trained)


@pytest.mark.parametrize(("rank", "alpha"), [(4, 8.0), (2, 16.0), (64, 128.0)])
def test_rank_and_alpha_reach_the_adapter(folder: Path, rank: int, alpha: float) -> None:
    decoder = moved(build("qwen3_lora", lora_rank=rank, lora_alpha=alpha))
    before = weights_of(decoder)
    layer = decoder.model.model.layers[2].self_attn.q_proj
    plain = layer.base_layer.weight.detach().clone()
    name = "model.model.layers.2.self_attn.q_proj.lora_{}.default.weight"
    a, b = before[name.format("A")], before[name.format("B")]
    assert a.shape == (rank, 16)
    decoder.merge_adapter()
    merged = decoder.model.model.layers[2].self_attn.q_proj.weight
    torch.testing.assert_close(merged, plain + b @ a * alpha / rank)


def test_adapter_dropout_acts_in_training_only(folder: Path) -> None:
    decoder = moved(build("qwen3_lora", lora_dropout=0.5))
    hidden = torch.randn(1, 5, 16)
    assert torch.equal(decoder(hidden, {}), decoder(hidden, {}))
    decoder.train()
    assert not torch.equal(decoder(hidden, {}), decoder(hidden, {}))


def test_attention_dropout_is_the_decoder_s(folder: Path) -> None:
    decoder = build("qwen3_full", dropout=0.5).train()
    hidden = torch.randn(1, 5, 16)
    assert not torch.equal(decoder(hidden, {}), decoder(hidden, {}))
    assert torch.equal(decoder.eval()(hidden, {}), decoder(hidden, {}))


@torch.no_grad()
def test_a_merged_adapter_gives_the_same_outputs_and_is_gone(folder: Path) -> None:
    decoder = moved(build("qwen3_lora"))
    hidden = torch.randn(2, 7, 16)
    plain, adapted = build("qwen3_full")(hidden, {}), decoder(hidden, {})
    assert not torch.allclose(plain, adapted, atol=1e-2)
    decoder.merge_adapter()
    torch.testing.assert_close(decoder(hidden, {}), adapted, atol=1e-5, rtol=1e-5)
    assert not [name for name, _ in decoder.named_modules() if "lora" in name]
    assert set(weights_of(decoder)) == set(weights_of(build("qwen3_full")))


@pytest.mark.parametrize("kind", ["qwen3_full", "qwen3_lora"])
@torch.no_grad()
def test_a_state_goes_into_a_fresh_decoder(folder: Path, kind: str) -> None:
    decoder = moved(build(kind))
    if kind == "qwen3_full":
        for weight in decoder.parameters():
            weight.add_(0.1)
    hidden = torch.randn(2, 7, 16)
    for strict in (True, False):
        fresh = build(kind)
        assert not torch.allclose(fresh(hidden, {}), decoder(hidden, {}), atol=1e-3)
        if strict:
            fresh.load_state_dict(decoder.state_dict())
        else:
            load_weights(fresh, weights_of(decoder), "test")
        assert torch.equal(fresh(hidden, {}), decoder(hidden, {}))


def test_full_training_reaches_every_weight(folder: Path) -> None:
    decoder = build("qwen3_full")
    ids = torch.arange(5)[None]
    decoder.logits(decoder(decoder.embed(ids), {})).square().sum().backward()
    idle = [n for n, p in decoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_sizes_that_are_not_qwen_s_are_refused_with_the_options_to_set(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"layers is 6, .*use -S decoder\.layers=8"):
        build("qwen3_lora", layers=6)


def test_a_sequence_beyond_qwen_s_positions_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="257 positions is longer than Qwen3's 256"):
        build("qwen3_full")(torch.zeros(1, 257, 16), {})


def test_more_ids_than_rows_are_refused(folder: Path) -> None:
    rows = find_qwen().pretrained.architecture["vocab_size"]
    with pytest.raises(DataError, match=f"{rows + 1} ids but Qwen3 {rows} rows"):
        build_qwen(config_of("qwen3_full"), find_qwen(), rows + 1, "before_layer")


def test_an_adapter_refuses_another_qwen(folder: Path) -> None:
    pretrained = find_qwen().pretrained
    assert qwen_trained_on(pretrained).folder == folder
    shutil.rmtree(folder)
    write_qwen(folder, seed=1)
    with pytest.raises(DataError, match="but the adapter was trained on"):
        qwen_trained_on(pretrained)


def test_what_is_missing_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(SetupError, match=r"holds no \.safetensors; weights in pickles"):
        find_qwen()
    (folder / "config.json").unlink()
    with pytest.raises(SetupError, match=r"config\.json: no such file"):
        find_qwen()
    monkeypatch.delenv("UVLM_QWEN3")
    with pytest.raises(SetupError, match="UVLM_QWEN3: is not set"):
        find_qwen()


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"model_type": "llama"}, "model_type is 'llama'"),
        ({"use_sliding_window": True}, "use_sliding_window"),
    ],
)
def test_another_architecture_is_refused(folder: Path, change: dict[str, Any], fact: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=fact):
        find_qwen()


def test_damaged_weights_are_one_data_error(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="not readable as Qwen3") as info:
        build("qwen3_full")
    assert "\n" not in str(info.value)


def test_weights_that_lack_a_tensor_are_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.3.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"no tensor model\.layers\.3\.mlp\.up_proj\.weight"):
        build("qwen3_full")
