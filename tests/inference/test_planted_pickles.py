"""A file that would run code if unpickled, planted wherever weights or settings are read."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny_qwen import SIZES, write_qwen
from uvlm.config import DecoderConfig
from uvlm.errors import UvlmError
from uvlm.files import file_sha256
from uvlm.inference.predictor import Predictor
from uvlm.model.build import build_qwen
from uvlm.model.folder import read_config, read_weights
from uvlm.model.pretrained import find_qwen
from uvlm.text.tokenizer import Tokenizer
from uvlm.train.loop.resume import ResumeFolder


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.trap, "ran")


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    return tmp_path / "trap"


@pytest.fixture
def poison(trap: Path) -> bytes:
    return pickle.dumps(Payload(trap))


def test_the_canary_sings(trap: Path, poison: bytes) -> None:
    pickle.loads(poison)
    assert trap.read_text() == "ran"


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "contract.json",
        "tokenizer.json",
        "unet.safetensors",
        "encoder.safetensors",
        "classifier.safetensors",
        "decoder.safetensors",
    ],
)
def test_a_pickle_in_a_model_folder_is_refused_and_does_not_run(
    name: str, report_folder: Path, trap: Path, poison: bytes
) -> None:
    """Whoever plants it also mends the digest."""
    (report_folder / name).write_bytes(poison)
    card = report_folder / "config.json"
    if name.endswith(".safetensors"):
        document = json.loads(card.read_text())
        document["weights"][name.removesuffix(".safetensors")] = file_sha256(report_folder / name)
        card.write_text(json.dumps(document))
    with pytest.raises(UvlmError) as error:
        Predictor.load(report_folder)
    assert "\n" not in str(error.value)
    assert not trap.exists()


def test_weights_are_read_as_safetensors_whatever_lies_beside_them(
    report_folder: Path, trap: Path, poison: bytes
) -> None:
    for name in ("decoder.pt", "decoder.bin", "pytorch_model.bin", "decoder.pkl"):
        (report_folder / name).write_bytes(poison)
    Predictor.load(report_folder)
    config = read_config(report_folder, ("report",))
    assert read_weights(report_folder, "decoder", config)
    assert not trap.exists()


def load_qwen(folder: Path) -> None:
    document: dict[str, Any] = {"kind": "qwen3_full", "dropout": 0.0, "max_report_tokens": 24}
    document |= {"lora_rank": 4, "lora_alpha": 8.0, "lora_dropout": 0.0, **SIZES}
    build_qwen(DecoderConfig(**document), find_qwen(), 40, "before_layer")


def load_tokenizer(folder: Path) -> None:
    Tokenizer.load(folder)


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("model.safetensors", load_qwen),
        ("config.json", load_qwen),
        ("tokenizer.json", load_tokenizer),
    ],
)
def test_a_pickle_in_the_folder_of_qwen3_does_not_run(
    name: str,
    load: Callable[[Path], None],
    tmp_path: Path,
    trap: Path,
    poison: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = write_qwen(tmp_path / "qwen")
    monkeypatch.setenv("UVLM_QWEN3", str(folder))
    (folder / "pytorch_model.bin").write_bytes(poison)
    load(folder)
    (folder / name).write_bytes(poison)
    with pytest.raises(UvlmError):
        load(folder)
    assert not trap.exists()


def test_a_pickle_as_training_state_does_not_run(trap: Path, poison: bytes) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state = ResumeFolder("train_report", "digest")
    state.folder.mkdir(parents=True)
    state.path.write_bytes(poison)
    with pytest.raises(UvlmError, match="damaged training state"):
        state.load(model, optimizer)
    assert not trap.exists()
