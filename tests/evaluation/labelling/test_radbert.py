"""The official classifier's structure, on a tiny random RoBERTa with a tokenizer of its own."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoTokenizer, RobertaConfig, RobertaModel
from typer.testing import CliRunner

from uvlm.cli import app
from uvlm.errors import ConfigError, DataError, SetupError
from uvlm.evaluation.labeller import get_labeller
from uvlm.evaluation.labelling.radbert import RadbertLabeller
from uvlm.evaluation.labelling.radbert_import import import_radbert
from uvlm.text.abnormalities import ABNORMALITIES

TEXTS = [
    "Findings: A nodule of 4 mm is seen.",
    "",
    "No pleural effusion. " * 200,  # longer than 512 tokens
    *(f"Report {number}: emphysema and cardiomegaly." for number in range(30)),
]  # 33 texts: the last batch of 16 holds one


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a download of the base model holds: a configuration and a tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(TEXTS, vocab_size=400, special_tokens=special)
    tokenizer.save_model(str(folder))
    config = RobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
    )
    config.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def weights(base: Path) -> dict[str, torch.Tensor]:
    """A random state dict with the published names, its buffer that is no weight among them."""
    torch.manual_seed(0)
    model = RobertaModel(RobertaConfig.from_pretrained(base))
    named = {f"model.{name}": torch.randn_like(w) * 0.3 for name, w in model.state_dict().items()}
    return named | {
        "model.embeddings.position_ids": torch.arange(514)[None],
        "classifier.weight": torch.randn(len(ABNORMALITIES), 32),
        "classifier.bias": torch.randn(len(ABNORMALITIES)),
    }


@pytest.fixture(scope="module")
def checkpoint(weights: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "RadBertClassifier.pth"
    torch.save(weights, path)
    return path


@pytest.fixture(scope="module")
def folder(checkpoint: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported") / "radbert"
    import_radbert(checkpoint, base, out)
    return out


def official_probabilities(text: str, base: Path, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """Follow the official scorer one text at a time, padded to 512 tokens."""
    model = RobertaModel(RobertaConfig.from_pretrained(base)).eval()
    model.load_state_dict(
        {
            name.removeprefix("model."): weight
            for name, weight in weights.items()
            if name.startswith("model.") and not name.endswith("position_ids")
        }
    )
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokens = tokenizer(
        text, max_length=512, padding="max_length", truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        pooled = model(tokens["input_ids"], attention_mask=tokens["attention_mask"]).pooler_output
    return torch.sigmoid(pooled @ weights["classifier.weight"].T + weights["classifier.bias"])[0]


def test_probabilities_are_those_of_the_official_protocol(
    folder: Path, base: Path, weights: dict[str, torch.Tensor]
) -> None:
    probabilities = RadbertLabeller(folder).probabilities(TEXTS)
    assert probabilities.shape == (33, 18)
    for row in (0, 1, 2, 32):
        expected = official_probabilities(TEXTS[row], base, weights).numpy()
        np.testing.assert_allclose(probabilities[row], expected, atol=1e-5)


@pytest.mark.parametrize("num_texts", [0, 1, 16, 17])
def test_an_odd_last_batch_keeps_its_rows(num_texts: int, folder: Path) -> None:
    labeller = RadbertLabeller(folder)
    labels = labeller.label(TEXTS[:num_texts])
    assert labels.shape == (num_texts, 18)
    alone = [labeller.label([text])[0] for text in TEXTS[:num_texts]]
    assert labels.tolist() == [row.tolist() for row in alone]


def test_labels_are_probabilities_of_at_least_one_half(folder: Path) -> None:
    labeller = RadbertLabeller(folder)
    labels = labeller.label(TEXTS)
    assert np.array_equal(labels, labeller.probabilities(TEXTS) >= 0.5)
    assert 0 < labels.mean() < 1


def test_the_environment_names_the_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVLM_RADBERT_WEIGHTS", str(folder))
    labeller = get_labeller("radbert")
    assert labeller.name == "radbert"
    assert labeller.label(TEXTS[:1]).shape == (1, 18)
    monkeypatch.delenv("UVLM_RADBERT_WEIGHTS")
    with pytest.raises(SetupError, match="UVLM_RADBERT_WEIGHTS: no weights") as caught:
        get_labeller("radbert")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(("name", "error"), [("gpu", ConfigError), ("mps", SetupError)])
def test_a_device_is_refused_as_everywhere(
    name: str, error: type[Exception], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setenv("UVLM_DEVICE", name)
    with pytest.raises(error, match=f"UVLM_DEVICE: .*{name}"):
        RadbertLabeller(folder)


def test_the_command_imports_and_never_overwrites(
    checkpoint: Path, base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "radbert"
    arguments = ["import-radbert", str(checkpoint), "--base", str(base), "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert {"model.safetensors", "config.json", "vocab.json"} <= {p.name for p in out.iterdir()}
    assert isinstance(CliRunner().invoke(app, arguments).exception, ConfigError)


class Payload:
    """Would write a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("kind", ["absent", "code", "text", "no tensors", "other model"])
def test_what_is_no_checkpoint_is_refused(
    kind: str, weights: dict[str, torch.Tensor], base: Path, tmp_path: Path
) -> None:
    path, trap = tmp_path / "checkpoint.pth", tmp_path / "executed"
    match kind:
        case "code":
            path.write_bytes(pickle.dumps(Payload(trap), protocol=2))
        case "text":
            path.write_text("version https://git-lfs.github.com/spec/v1\n")
        case "no tensors":
            torch.save({"epoch": 3}, path)
        case "other model":
            torch.save({name: w for name, w in weights.items() if "layer.1." not in name}, path)
    with pytest.raises(DataError, match=r"checkpoint\.pth"):
        import_radbert(path, base, tmp_path / "out")
    assert not trap.exists()
    assert not (tmp_path / "out").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("fault", ["no weights", "cut off", "other size"])
def test_a_damaged_folder_says_what_is_wrong(fault: str, folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    if fault == "no weights":
        weights.unlink()
    elif fault == "cut off":
        weights.write_bytes(weights.read_bytes()[:100])
    else:
        config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_size": 64}))
    with pytest.raises(SetupError) as caught:
        RadbertLabeller(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SetupError, match=r"pip install .* -e '\.\[radbert\]'"):
        RadbertLabeller(folder)
