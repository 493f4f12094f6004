"""Recomputed layers of the decoders give the same gradients, and make Qwen3-4B fit one GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.profiles import compose
from tests.tiny_qwen import SIZES, write_qwen
from tests.train.chain import changed
from uvlm.config import Params, parse_params
from uvlm.estimates.networks import report_training, training_sizes
from uvlm.inference.decoding import Decoding
from uvlm.inference.writing import write_reports
from uvlm.model.align import num_visual_tokens
from uvlm.model.build import build_uvlm
from uvlm.model.uvlm import SpecialIds
from uvlm.model.weights import weights_of
from uvlm.train.loop.memory import recompute_layers
from uvlm.train.report_net import ReportNet

KINDS = ("scratch", "qwen3_full", "qwen3_lora")
POSITIONS = ("before_layer", "after_attention")
GB = 10**9


@pytest.fixture(autouse=True)
def _qwen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVLM_QWEN3", str(write_qwen(tmp_path / "qwen")))


def build(params: Params, kind: str, position: str, recomputed: bool) -> ReportNet:
    """A network with dropout whose every weight matters."""
    sizes = {} if kind == "scratch" else SIZES | {"lora_rank": 4, "lora_dropout": 0.2}
    params = changed(params, "decoder", kind=kind, dropout=0.2, **sizes)
    params = changed(params, "injection", position=position)
    torch.manual_seed(0)
    parts = params.encoder, params.decoder, params.injection, params.preprocess.grid
    uvlm = build_uvlm(*parts, 200, SpecialIds(0, 1, 2, 3, 4))
    for weight in uvlm.parameters():
        weight.data.add_(0.1 * torch.randn_like(weight))
    names = list(weights_of(uvlm))
    if recomputed:
        recompute_layers(uvlm.decoder)
    assert list(weights_of(uvlm)) == names
    return ReportNet(uvlm.train(), params.injection, None)


def visual_of(params: Params) -> list[Tensor]:
    torch.manual_seed(1)
    stage, strides = params.injection.reference_stage, params.encoder.strides
    tokens = num_visual_tokens(params.preprocess.grid, strides, stage)
    return [torch.randn(2, tokens, channels) for channels in params.encoder.channels]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("position", POSITIONS)
def test_gradients_with_dropout_are_identical_bit_for_bit(
    params: Params, kind: str, position: str
) -> None:
    found: list[dict[str, Tensor]] = []
    for recomputed in (False, True):
        net, visual = build(params, kind, position, recomputed), visual_of(params)
        torch.manual_seed(7)
        net.loss(visual, torch.randint(5, 200, (2, 12))).backward()
        found.append({n: p.grad for n, p in net.named_parameters() if p.grad is not None})
        drawn = torch.rand(1)  # what is random afterwards stays, too
        assert drawn == found[0].setdefault("drawn", drawn)
    plain, recomputed_ = found
    recomputed_["drawn"] = plain["drawn"]
    assert recomputed_.keys() == plain.keys()
    assert all(torch.equal(recomputed_[name], plain[name]) for name in plain)
    # Between the halves of the last layer, nothing that a report reads is added any more.
    idle = {name for name in plain if "projections" in name and not plain[name].any()}
    last = position == "after_attention" and params.decoder.layers == 6 and kind == "scratch"
    assert all(".1." in name for name in idle)
    assert bool(idle) == last


@pytest.mark.parametrize("kind", KINDS)
def test_reports_are_written_as_without(params: Params, kind: str) -> None:
    written = [
        write_reports(
            build(params, kind, "before_layer", recomputed).uvlm, visual_of(params), Decoding(8)
        )
        for recomputed in (False, True)
    ]
    assert written[0] == written[1]
    assert any(report.ids for report in written[0])


def qwen3_4b(folder: Path, layers: int, recomputed: bool, **changes: Any) -> Params:
    """The profile `chest` with the decoder of the paper, trained whole, and that many layers."""
    sizes = {"hidden_size": 2560, "intermediate_size": 9728, "num_attention_heads": 32}
    other = {"model_type": "qwen3", "num_key_value_heads": 8, "head_dim": 128}
    other |= {"vocab_size": 151936, "tie_word_embeddings": True, "max_position_embeddings": 40960}
    architecture = sizes | other | {"num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(architecture))
    document = compose(Path(__file__).parents[3], "chest")
    document["tokenizer"]["kind"] = "qwen3"
    own = {"kind": "qwen3_full", "layers": layers, "width": 2560, "heads": 32, "ffn": 9728}
    document["decoder"] |= own
    document["injection"]["layer_by_stage"] = {6: 1}
    document["train_report"] |= {"gradient_checkpointing": recomputed, "val_cases": 1, **changes}
    return parse_params(document, "4b")


def on_device(params: Params) -> int:
    sizes = training_sizes(report_training, params)
    return sum(size for name, (size, _) in sizes.items() if name != "best and saved")


@pytest.mark.slow
def test_qwen3_4b_trained_whole_fits_80_gb_at_batch_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers are added up: every further one holds what the sixth does.

    Recomputed, that is 16 bytes a weight: itself, its gradient and two moments.
    """
    monkeypatch.setenv("UVLM_QWEN3", str(tmp_path / "qwen"))
    monkeypatch.setenv("UVLM_PRECISION", "bf16-mixed")
    weights_of_a_layer = 2 * 2560 * 4096 + 2 * 2560 * 1024 + 3 * 2560 * 9728
    added, whole = [], []
    for recomputed in (False, True):
        five, six = (on_device(qwen3_4b(tmp_path / "qwen", n, recomputed)) for n in (5, 6))
        added.append(six - five)
        whole.append(six + 30 * (six - five))
    assert added[1] == pytest.approx(16 * weights_of_a_layer, rel=1e-3)
    assert added[0] > added[1] + 300e6
    assert whole[0] > 79 * GB
    assert whole[1] < 70 * GB  # the rest is for CUDA itself, and for blocks that do not fit
