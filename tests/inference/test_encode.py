from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from uvlm.config import Params, parse_params
from uvlm.data import contract as contracts
from uvlm.data.cases import Case, write_index
from uvlm.data.contract import contract, contract_sha256, normalise, volume_statistics
from uvlm.errors import DataError
from uvlm.files import store_root
from uvlm.inference import encode
from uvlm.inference.encode import encode_cases, read_encodings, split_stages
from uvlm.model.align import align
from uvlm.model.build import build_classifier, build_encoder
from uvlm.model.folder import save_model
from uvlm.model.load import load_encoder
from uvlm.model.model_config import ClsModelConfig
from uvlm.store import (
    Row,
    Shard,
    load_array,
    resolve,
    rows_by_case,
    save_array,
    write_manifest,
)

GRID = (8, 16, 16)
CASES = ("train_1_a_1", "valid_1_a_1")


@pytest.fixture
def params(tiny_document: dict[Any, Any]) -> Params:
    """K = 32 tokens at stage 4; stages 5 and 6 have 4 tokens of their own."""
    tiny_document["preprocess"] |= {"grid": GRID}
    tiny_document["encoder"] |= {"channels": [2, 3, 4, 5, 6, 8], "strides": [1, 2, 2, 1, 2, 1]}
    tiny_document["classifier"] |= {"heads": 2}
    tiny_document["train_seg"] |= {"patch": GRID}
    tiny_document["injection"] |= {"reference_stage": 4, "pooling": "average"}
    tiny_document["encode"] |= {"dtype": "float32"}
    return parse_params(tiny_document, "tests")


@pytest.fixture
def volumes() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {name: rng.integers(-1000, 1000, GRID).astype(np.int16) for name in CASES}


@pytest.fixture
def inputs(tmp_path: Path, params: Params, volumes: dict[str, Any]) -> dict[str, Any]:
    """An index, a cache and a classifier folder."""
    rows, cases = [], []
    for name, split in zip(CASES, ("train", "test"), strict=True):
        path = f"preprocess/{name}.b2nd"
        digest = save_array(store_root() / path, volumes[name])
        mean, std = volume_statistics(volumes[name])
        extra = {"shape": GRID, "mean": mean, "std": std}
        extra["contract_sha256"] = contract_sha256(params.preprocess)
        rows.append(Row(name, name, path, digest, "test", extra))
        flags = (0,) * 18
        cases.append(Case(name, name, name, split, "", None, {}, flags, "Normal.", "None."))  # type: ignore[arg-type]
    write_manifest(tmp_path / "preprocess.jsonl", rows)
    write_index(tmp_path / "index.jsonl", cases)
    save_encoder(tmp_path / "cls", params, seed=0)
    names = {"index": "index.jsonl", "preprocess": "preprocess.jsonl", "model": "cls"}
    return {name: tmp_path / file for name, file in names.items()} | {"out": tmp_path / "e.jsonl"}


def save_encoder(folder: Path, params: Params, seed: int) -> None:
    torch.manual_seed(seed)
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
    save_model(folder, modules, config, contract(params.preprocess))


def encoded_by_hand(params: Params, folder: Path, volume: Any) -> list[Tensor]:
    x = torch.from_numpy(normalise(volume, params.preprocess))[None, None]
    with torch.no_grad():
        return align(load_encoder(folder).encoder(x), reference_stage=4, pooling="average")


def test_stored_tokens_are_the_aligned_features_of_every_stage(
    params: Params, inputs: dict[str, Any], volumes: dict[str, Any]
) -> None:
    rows = {row.case: row for row in encode_cases(params, **inputs)}
    assert set(rows) == set(CASES)
    for name, row in rows.items():
        stored = torch.from_numpy(load_array(resolve(row, "encode"), row.sha256))[None]
        stages = split_stages(stored, row.extra["channels"])
        expected = encoded_by_hand(params, inputs["model"], volumes[name])
        assert [tuple(s.shape) for s in stages] == [(1, 32, c) for c in params.encoder.channels]
        for one, other in zip(stages, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
        assert not stages[4][:, 4:].any()


def test_half_precision_is_close_and_half_the_size(params: Params, inputs: dict[str, Any]) -> None:
    (exact, *_) = encode_cases(params, **inputs)
    half = params.model_copy(
        update={"encode": params.encode.model_copy(update={"dtype": "float16"})}
    )
    (rounded, *_) = encode_cases(half, **inputs)
    full, small = (load_array(resolve(row, "encode")) for row in (exact, rounded))
    assert small.nbytes * 2 == full.nbytes
    np.testing.assert_allclose(small.astype(np.float32), full, rtol=1e-3, atol=1e-4)


def test_a_second_run_writes_the_same_manifest_without_the_encoder(
    params: Params, inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_cases(params, **inputs)
    before = inputs["out"].read_bytes()
    monkeypatch.setattr("uvlm.inference.encode.encode_volumes", None)
    encode_cases(params, **inputs)
    assert inputs["out"].read_bytes() == before


@pytest.mark.parametrize(
    "change", [{"reference_stage": 6}, {"pooling": "max"}, {"deeper": "interpolated"}]
)
def test_another_alignment_is_encoded_again_and_the_old_tokens_are_refused(
    change: dict[str, Any], params: Params, inputs: dict[str, Any]
) -> None:
    (old, *_) = encode_cases(params, **inputs)
    injection = params.injection.model_copy(update=change)
    with pytest.raises(DataError, match=next(iter(change))):
        read_encodings(inputs["out"], injection, old.extra["encoder_sha256"])
    (new, *_) = encode_cases(params.model_copy(update={"injection": injection}), **inputs)
    assert new.key != old.key
    assert set(read_encodings(inputs["out"], injection, new.extra["encoder_sha256"])) == set(CASES)


@pytest.mark.slow
@pytest.mark.parametrize("loaders", ["0", "2"])
def test_shares_fill_the_store_and_the_whole_run_only_assembles(
    loaders: str, params: Params, inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_LOADERS", loaders)
    monkeypatch.setattr(encode, "BATCH_VOXELS", 1)  # a batch for every case
    rows = encode_cases(params, **inputs)
    whole = inputs["out"].read_bytes()
    for row in rows:
        resolve(row, "encode").unlink()
    inputs["out"].unlink()
    shares = [encode_cases(params, **inputs, shard=Shard(number, 2)) for number in (1, 2)]
    assert [[row.case for row in share] for share in shares] == [[r.case] for r in rows]
    assert not inputs["out"].exists()
    monkeypatch.setattr(encode, "encode_volumes", None)
    assert encode_cases(params, **inputs) == rows
    assert inputs["out"].read_bytes() == whole


def test_a_damaged_volume_is_one_line_from_a_process_that_reads_ahead(
    params: Params, inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_LOADERS", "1")
    row = rows_by_case(inputs["preprocess"])[CASES[1]]
    save_array(resolve(row, "preprocess"), np.zeros(GRID, np.int16))
    with pytest.raises(DataError, match="its content is not"):
        encode_cases(params, **inputs)


@pytest.mark.slow
def test_another_encoder_is_encoded_again(params: Params, inputs: dict[str, Any]) -> None:
    (old, *_) = encode_cases(params, **inputs)
    save_encoder(inputs["model"], params, seed=1)
    (new, *_) = encode_cases(params, **inputs)
    assert new.key != old.key
    assert new.sha256 != old.sha256


@pytest.mark.slow
def test_a_model_of_another_contract_is_refused(params: Params, inputs: dict[str, Any]) -> None:
    other = params.preprocess.model_copy(update={"normalise": "zscore"})
    with pytest.raises(DataError, match="normalise"):
        encode_cases(params.model_copy(update={"preprocess": other}), **inputs)
    assert not inputs["out"].exists()


def clipped(*args: Any) -> Any:
    return contracts.scaled(*args).clip(-0.3, 0.3)


def scaled(factor: float) -> Any:
    return lambda *args: [tokens * factor for tokens in align(*args)]


@pytest.mark.parametrize(
    ("function", "edited"),
    [("uvlm.inference.encode.scaled", clipped), ("uvlm.inference.encode.align", scaled(2))],
)
def test_changed_code_is_refused_until_its_version_is_raised(
    function: str,
    edited: Any,
    params: Params,
    inputs: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (old, *_) = encode_cases(params, **inputs, code="before")
    monkeypatch.setattr(function, edited)
    with pytest.raises(
        DataError, match=r"values differ; raise VERSION in uvlm/inference/encode.py"
    ):
        encode_cases(params, **inputs, code="after")
    monkeypatch.setattr(encode, "VERSION", 99)
    (new, *_) = encode_cases(params, **inputs, code="after")
    assert new.sha256 != old.sha256
    assert load_array(resolve(old, "encode"), old.sha256).shape == (32, 28)


def test_tokens_that_another_device_rounds_otherwise_are_taken_as_equal_and_compared_once(
    params: Params, inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = encode_cases(params, **inputs, code="before")
    monkeypatch.setattr(encode, "align", scaled(1.001))
    assert encode_cases(params, **inputs, code="after") == rows
    monkeypatch.setattr(encode, "encode_volumes", None)
    assert encode_cases(params, **inputs, code="after") == rows


def test_an_interrupted_batch_ends_with_the_bytes_of_a_whole_one(
    params: Params, inputs: dict[str, Any]
) -> None:
    rows = encode_cases(params, **inputs)
    kept, lost = (resolve(row, "encode") for row in rows)
    written = kept.stat().st_mtime_ns
    lost.unlink()
    assert encode_cases(params, **inputs) == rows
    assert kept.stat().st_mtime_ns == written
