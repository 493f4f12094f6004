"""Reports from cached features are those of the encoder itself, at the paper's strides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.inference.tiny_writer import greedy
from tests.tiny_qwen import SIZES, write_qwen
from uvlm.config import Params, parse_params
from uvlm.data.cases import Case, write_index
from uvlm.data.contract import contract, contract_sha256, normalise, volume_statistics
from uvlm.files import store_root
from uvlm.inference.encode import encode_cases, split_stages
from uvlm.model.align import align
from uvlm.model.build import build_classifier, build_encoder, build_uvlm
from uvlm.model.folder import save_model
from uvlm.model.load import load_encoder
from uvlm.model.model_config import ClsModelConfig
from uvlm.model.uvlm import UVLM, SpecialIds
from uvlm.store import Row, load_array, resolve, save_array, write_manifest

GRID = (64, 64, 64)  # the deepest stage is 2x2x2, the one above 4x4x4
CASES = ("train_1_a_1", "valid_1_a_1")


@pytest.fixture
def params(tiny_document: dict[Any, Any]) -> Params:
    """The paper's six stages, strides and decoder shape, an eighth as wide."""
    tiny_document["preprocess"] |= {"grid": GRID}
    tiny_document["encoder"] |= {
        "channels": [4, 8, 16, 32, 40, 40],
        "strides": [1, 2, 2, 2, 2, 2],
        "blocks": [1] * 6,
    }
    tiny_document["train_seg"] |= {"patch": GRID}
    tiny_document["decoder"] |= {"layers": 8, "width": 64, "heads": 8, "ffn": 256, "dropout": 0.0}
    return parse_params(tiny_document, "tests")


def write_project(folder: Path, params: Params) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    rows, cases = [], []
    for name in CASES:
        volume = rng.integers(-1000, 1000, GRID).astype(np.int16)
        digest = save_array(store_root() / f"preprocess/{name}.b2nd", volume)
        mean, std = volume_statistics(volume)
        extra = {"shape": list(GRID), "mean": mean, "std": std}
        extra["contract_sha256"] = contract_sha256(params.preprocess)
        rows.append(Row(name, name, f"preprocess/{name}.b2nd", digest, "test", extra))
        cases.append(Case(name, name, name, "train", "", None, {}, (0,) * 18, "Normal.", "None."))
    write_manifest(folder / "preprocess.jsonl", rows)
    write_index(folder / "index.jsonl", cases)
    torch.manual_seed(0)
    modules = {
        "encoder": build_encoder(params.encoder).state_dict(),
        "classifier": build_classifier(params.encoder, params.classifier, GRID, 18).state_dict(),
    }
    config = ClsModelConfig(
        encoder=params.encoder,
        grid=GRID,
        classifier=params.classifier,
        abnormalities=tuple("abcdefghijklmnopqr"),
    )
    save_model(folder / "cls", modules, config, contract(params.preprocess))
    names = {"index": "index.jsonl", "preprocess": "preprocess.jsonl", "model": "cls"}
    return {key: folder / name for key, name in names.items()} | {"out": folder / "encode.jsonl"}


def uncached(params: Params, paths: dict[str, Any]) -> list[Tensor]:
    """The encoder in front of the decoder, as in a training that moves it."""
    volumes = [load_array(store_root() / f"preprocess/{name}.b2nd") for name in CASES]
    x = torch.from_numpy(np.stack([normalise(v, params.preprocess) for v in volumes])[:, None])
    encoder = load_encoder(paths["model"]).encoder.to(memory_format=torch.channels_last_3d)
    plan = params.injection
    with torch.no_grad():
        return align(encoder(x), plan.reference_stage, plan.pooling, plan.deeper)


def cached(params: Params, paths: dict[str, Any], dtype: str) -> list[Tensor]:
    encode = params.encode.model_copy(update={"dtype": dtype})
    rows = encode_cases(params.model_copy(update={"encode": encode}), **paths)
    stored = np.stack([load_array(resolve(row, "encode"), row.sha256) for row in rows])
    assert stored.dtype == dtype
    tokens = torch.from_numpy(stored.astype(np.float32))
    return split_stages(tokens, params.encoder.channels)


def model_of(params: Params) -> UVLM:
    torch.manual_seed(1)
    specials = SpecialIds(0, 1, 2, 3, 4)
    return build_uvlm(params.encoder, params.decoder, params.injection, GRID, 256, specials).eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "reference", "pooling", "deeper"),
    [
        ("scratch", 6, "average", "zeros"),
        ("scratch", 5, "average", "zeros"),
        ("scratch", 5, "max", "interpolated"),
        ("qwen3_full", 5, "average", "zeros"),
    ],
)
@torch.no_grad()
def test_logits_from_the_cache_are_exact_in_fp32_and_close_in_fp16(
    params: Params,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    reference: int,
    pooling: str,
    deeper: str,
) -> None:
    if kind != "scratch":
        monkeypatch.setenv("UVLM_QWEN3", str(write_qwen(tmp_path / "qwen")))
        decoder = params.decoder.model_copy(update={"kind": kind, **SIZES})
        params = params.model_copy(update={"decoder": decoder})
    change = {"reference_stage": reference, "pooling": pooling, "deeper": deeper}
    injection = params.injection.model_copy(update=change)
    params = params.model_copy(update={"injection": injection})
    paths = write_project(tmp_path, params)
    model, ids = model_of(params), torch.tensor([[3, 9, 17, 30], [3, 25, 11, 4]])
    expected = model(uncached(params, paths), ids)
    assert float(expected.std()) > 0.1
    exact, half = cached(params, paths, "float32"), cached(params, paths, "float16")
    assert torch.equal(model(exact, ids), expected)
    assert float((model(half, ids) - expected).abs().max()) < 2e-3
    assert not torch.equal(model(half, ids), expected)
    assert greedy(model, exact, 8) == greedy(model, uncached(params, paths), 8)
