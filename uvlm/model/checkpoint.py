"""Model folders: safetensors and JSON, written whole or not at all, verified when read.

    seg     unet, encoder                        .safetensors   config.json  contract.json
    cls     encoder, classifier                  .safetensors   config.json  contract.json
    report  unet, encoder, classifier, decoder   .safetensors   config.json  contract.json
            and tokenizer.json: stands alone for `predict`

config.json rebuilds the modules and holds the sha256 of every weights file; contract.json says how
a volume must be prepared. `decoder` holds the projections too. Nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from safetensors.torch import save_file
from torch import Tensor, nn

from uvlm.errors import DataError
from uvlm.model.build import build_classifier, build_uvlm
from uvlm.model.classifier import Classifier
from uvlm.model.model_config import (
    MODEL_CONFIG,
    AnyModelConfig,
    ClsModelConfig,
    ModelConfig,
    ReportModelConfig,
    SegModelConfig,
)
from uvlm.model.model_folder import file_sha256, read_config, read_contract, read_weights
from uvlm.model.pretrained import QwenSource, qwen_trained_on
from uvlm.model.qwen import QwenDecoder
from uvlm.model.unet import build_encoder, build_unet
from uvlm.model.uvlm import UVLM
from uvlm.model.weights import load_weights, without_aliases


@dataclass(frozen=True)
class SegmenterModel:
    """The U-Net of a seg or report folder, in evaluation mode, without deep supervision."""

    unet: ResidualEncoderUNet
    config: SegModelConfig | ReportModelConfig
    contract: dict[str, Any]
    sha256: str


@dataclass(frozen=True)
class EncoderModel:
    """The encoder of any folder, in evaluation mode."""

    encoder: ResidualEncoder
    config: AnyModelConfig
    contract: dict[str, Any]
    sha256: str


@dataclass(frozen=True)
class ClassifierModel:
    """Encoder and classifier of a cls or report folder, in evaluation mode."""

    encoder: ResidualEncoder
    classifier: Classifier
    config: ClsModelConfig | ReportModelConfig
    contract: dict[str, Any]
    sha256: str


@dataclass(frozen=True)
class ReportModel:
    """Everything in a report folder, in evaluation mode; `tokenizer` is its tokenizer.json."""

    unet: ResidualEncoderUNet
    encoder: ResidualEncoder
    classifier: Classifier
    uvlm: UVLM
    tokenizer: Path
    config: ReportModelConfig
    contract: dict[str, Any]
    sha256: str


def save_model(
    directory: Path,
    modules: Mapping[str, Mapping[str, Tensor]],
    config: AnyModelConfig | Mapping[str, Any],
    contract: Mapping[str, Any],
    files: Mapping[str, bytes] | None = None,
) -> str:
    """Write a model folder under a temporary name, then rename it over `directory`.

    Args:
        directory: the folder to make or replace.
        modules: `state_dict()` of every module of the kind, by name.
        config: a SegModelConfig, ClsModelConfig or ReportModelConfig, or the same as a mapping.
        contract: how volumes were prepared.
        files: more files by name, such as tokenizer.json.

    Returns:
        The model's sha256, the digest of its config.json, which covers all weights.
    """
    card = MODEL_CONFIG.validate_python(config)
    if set(modules) != set(card.module_names):
        raise ValueError(f"modules {sorted(modules)} given, {sorted(card.module_names)} needed")
    temporary = directory.parent / f".{directory.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for name, state in modules.items():
            tensors = {key: t.detach().cpu() for key, t in without_aliases(state).items()}
            contiguous = {key: tensor.contiguous() for key, tensor in tensors.items()}
            save_file(contiguous, temporary / f"{name}.safetensors")
        digests = {name: file_sha256(temporary / f"{name}.safetensors") for name in sorted(modules)}
        document = card.model_copy(update={"weights": digests}).model_dump(mode="json")
        _write_json(temporary / "config.json", document)
        _write_json(temporary / "contract.json", contract)
        for name, payload in (files or {}).items():
            (temporary / name).write_bytes(payload)
        _replace_folder(directory, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return file_sha256(directory / "config.json")


def load_segmenter(directory: Path) -> SegmenterModel:
    """Load the U-Net of a seg or report folder."""
    config = read_config(directory, ("seg", "report"))
    assert not isinstance(config, ClsModelConfig)
    unet = build_unet(config.encoder, len(config.class_names), deep_supervision=False)
    _fill(unet, directory, "unet", config)
    return SegmenterModel(unet, config, *_identity(directory))


def load_encoder(directory: Path, kinds: Sequence[str] = ("seg", "cls", "report")) -> EncoderModel:
    """Load the encoder of a model folder; `kinds` narrows which models are accepted."""
    config = read_config(directory, kinds)
    return EncoderModel(_encoder(directory, config), config, *_identity(directory))


def load_classifier(directory: Path) -> ClassifierModel:
    """Load encoder and classifier of a cls or report folder."""
    config = read_config(directory, ("cls", "report"))
    assert not isinstance(config, SegModelConfig)
    encoder, classifier = _encoder(directory, config), _classifier(directory, config)
    return ClassifierModel(encoder, classifier, config, *_identity(directory))


def load_report_model(directory: Path) -> ReportModel:
    """Load all modules of a report folder and the path of its tokenizer."""
    config = read_config(directory, ("report",))
    assert isinstance(config, ReportModelConfig)
    tokenizer = directory / "tokenizer.json"
    if not tokenizer.is_file():
        raise DataError(tokenizer, "no such file", "write the folder again with train_report")
    uvlm = build_uvlm(
        config.encoder,
        config.decoder,
        config.injection,
        config.grid,
        config.vocabulary_size,
        config.specials,
        _qwen(directory, config),
    )
    _fill(uvlm, directory, "decoder", config)
    if isinstance(uvlm.decoder, QwenDecoder):
        uvlm.decoder.merge_adapter()
    return ReportModel(
        load_segmenter(directory).unet,
        _encoder(directory, config),
        _classifier(directory, config),
        uvlm,
        tokenizer,
        config,
        *_identity(directory),
    )


def check_contract(directory: Path, contract: Mapping[str, Any]) -> None:
    """Refuse a model whose volumes were prepared differently from `contract`.

    Keys that only the model's contract has, such as label names, are not compared.
    """
    stored = read_contract(directory)
    given = json.loads(json.dumps(contract))
    for key in sorted(given):
        if key not in stored or stored[key] != given[key]:
            raise DataError(
                directory / "contract.json",
                f"{key} is {stored.get(key)!r} in the model but {given[key]!r} in the data",
                "prepare the data as the model was trained, or train the model again",
            )


def _encoder(directory: Path, config: ModelConfig) -> ResidualEncoder:
    encoder = build_encoder(config.encoder)
    _fill(encoder, directory, "encoder", config)
    return encoder


def _classifier(directory: Path, config: ClsModelConfig | ReportModelConfig) -> Classifier:
    classifier = build_classifier(
        config.encoder, config.classifier, config.grid, len(config.abnormalities)
    )
    _fill(classifier, directory, "classifier", config)
    return classifier


def _qwen(directory: Path, config: ReportModelConfig) -> QwenSource | None:
    """Find what a Qwen3 decoder is built from: an adapter needs the weights it was trained on."""
    if config.decoder.kind == "scratch":
        return None
    if config.pretrained is None:
        raise DataError(
            directory / "config.json",
            f"decoder.kind is {config.decoder.kind} but `pretrained` is missing",
            "write the folder again: dvc repro -f -s train_report",
        )
    if config.decoder.kind == "qwen3_lora":
        return qwen_trained_on(config.pretrained)
    return QwenSource(config.pretrained)


def _fill(module: nn.Module, directory: Path, name: str, config: ModelConfig) -> None:
    """Put verified weights into a fresh module and make it ready for evaluation."""
    load_weights(module, read_weights(directory, name, config), directory / f"{name}.safetensors")
    module.eval()


def _identity(directory: Path) -> tuple[dict[str, Any], str]:
    """Read the contract and the sha256 of the model."""
    return read_contract(directory), file_sha256(directory / "config.json")


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _replace_folder(directory: Path, complete: Path) -> None:
    """Rename `complete` to `directory`, moving an older folder out of the way first."""
    retired = directory.parent / f".{directory.name}.{os.getpid()}.old"
    if directory.exists():
        directory.rename(retired)
    complete.rename(directory)
    shutil.rmtree(retired, ignore_errors=True)
