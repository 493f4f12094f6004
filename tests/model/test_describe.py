"""Numbers of the paper, counted on the meta device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from uvlm.config import Grid, Params, load_params
from uvlm.model.describe import describe

ROOT = Path(__file__).parents[2]


def params_with(grid: Grid, reference: int, kind: str = "multi_layer") -> Params:
    """The committed parameters with the paper's encoder and decoder."""
    params = load_params(ROOT / "params.yaml")
    sections = {
        "preprocess": {"grid": grid},
        "tokenizer": {"kind": "qwen3"},
        "encoder": {
            "channels": (32, 64, 128, 256, 320, 320),
            "strides": (1, 2, 2, 2, 2, 2),
            "blocks": (1, 3, 4, 6, 6, 6),
        },
        "decoder": {"layers": 8, "width": 512, "heads": 8, "ffn": 2048},
        "injection": {
            "kind": kind,
            "reference_stage": reference,
            "layer_by_stage": {6: 1, 5: 2, 4: 3, 3: 4, 2: 5, 1: 6},
        },
    }
    changed = {
        name: getattr(params, name).model_copy(update=update) for name, update in sections.items()
    }
    return params.model_copy(update=changed)


def test_paper_parameters_are_90_102_and_103_million() -> None:
    rows = dict(describe(params_with((192, 256, 256), reference=6)))
    assert rows["vocabulary"] == 151_669
    assert rows["encoder parameters"] == pytest.approx(90.3e6, abs=5e4)
    assert rows["unet parameters"] == pytest.approx(102.4e6, abs=5e4)
    assert rows["decoder parameters"] == pytest.approx(102.9e6, abs=5e4)


@pytest.mark.parametrize(
    ("reference", "count", "own"),
    [(6, 384, "384 384 384 384 384 384"), (5, 3072, "3072 3072 3072 3072 3072 384")],
)
def test_paper_visual_tokens_are_384_or_3072(reference: int, count: int, own: str) -> None:
    rows = dict(describe(params_with((192, 256, 256), reference)))
    assert rows["visual tokens K"] == count
    assert rows["tokens by stage"] == own
    assert rows["stage grids"] == "192x256x256 96x128x128 48x64x64 24x32x32 12x16x16 6x8x8"


def test_the_injection_plan_is_written_out() -> None:
    rows = dict(describe(params_with((64, 64, 64), 6)))
    assert rows["injection"] == "f6->L1 f5->L2 f4->L3 f3->L4 f2->L5 f1->L6"
    assert dict(describe(params_with((64, 64, 64), 6, "input_only")))["injection"] == "input only"
    assert dict(describe(params_with((64, 64, 64), 6)))["injected"] == "before layer"


QWEN3_4B = {
    "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 2560, "intermediate_size": 9728,
    "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "max_position_embeddings": 40960, "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "trained"), [("qwen3_full", 4_022_468_096), ("qwen3_lora", 47_185_920)]
)
def test_qwen3_4b_has_4_billion_weights_and_its_adapter_47_million(
    kind: str, trained: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published count; the adapter's by hand: 36 layers x 64 x (q, k, v, o: in + out)."""
    monkeypatch.setenv("UVLM_QWEN3", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(QWEN3_4B))
    params = params_with((192, 256, 256), 6)
    sizes = {"layers": 36, "width": 2560, "heads": 32, "ffn": 9728, "kind": kind, "dropout": 0.0}
    decoder = params.decoder.model_copy(update=sizes)
    rows = dict(describe(params.model_copy(update={"decoder": decoder})))
    assert rows["decoder trained"] == trained
    assert rows["with Qwen3's vocabulary"] == rows["decoder parameters"]
    adapter = trained if kind == "qwen3_lora" else 0
    assert rows["decoder parameters"] == 4_022_468_096 + adapter
    assert 36 * 64 * 2 * ((2560 + 4096) + (2560 + 1024)) == 47_185_920


def test_a_small_qwen3_has_a_small_vocabulary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arms with Qwen3 run on a random one where nobody downloaded the published weights."""
    monkeypatch.setenv("UVLM_QWEN3", str(tmp_path))
    small = {"vocab_size": 2053, "hidden_size": 64, "intermediate_size": 192, "head_dim": 16,
             "num_hidden_layers": 8, "num_attention_heads": 4,
             "num_key_value_heads": 2}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(QWEN3_4B | small))
    params = params_with((64, 64, 64), 6)
    sizes = {"layers": 8, "width": 64, "heads": 4, "ffn": 192, "kind": "qwen3_lora", "dropout": 0.0}
    changed = {
        "decoder": params.decoder.model_copy(update=sizes),
        "tokenizer": params.tokenizer.model_copy(update={"kind": "qwen3"}),
    }
    rows = dict(describe(params.model_copy(update=changed)))
    assert rows["vocabulary"] == 2053
    published = describe(params.model_copy(update={"tokenizer": changed["tokenizer"]}))
    assert dict(published)["vocabulary"] == 151_669
