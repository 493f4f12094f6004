"""The modules of a model folder, rebuilt from its config and filled with verified weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from torch import nn

from uvlm.errors import DataError
from uvlm.files import file_sha256
from uvlm.model.build import build_classifier, build_encoder, build_unet, build_uvlm
from uvlm.model.classifier import Classifier
from uvlm.model.cues import CueSizes
from uvlm.model.folder import read_config, read_contract, read_weights
from uvlm.model.model_config import ClsModelConfig, ModelConfig, ReportModelConfig, SegModelConfig
from uvlm.model.pretrained import QwenOrigin, qwen_trained_on
from uvlm.model.qwen import QwenDecoder
from uvlm.model.trained import Part, trained_parts
from uvlm.model.uvlm import UVLM
from uvlm.model.weights import load_weights

_REMEDY = "write the folder again: dvc repro -f -s train_report"
Config = TypeVar("Config", bound=ModelConfig)
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Loaded(Generic[Config]):
    """What every model folder holds; its modules are in evaluation mode."""

    config: Config
    contract: dict[str, Any]
    sha256: str

    @property
    def trained(self) -> set[Part]:
        """The parts that have learned, of those that were loaded."""
        return trained_parts(self.config.trained, self._parts())

    def _parts(self) -> dict[Part, nn.Module]:
        """Return the loaded modules by the part that they are."""
        raise NotImplementedError


@dataclass(frozen=True)
class SegmenterModel(Loaded[SegModelConfig | ReportModelConfig]):
    """The U-Net of a seg or report folder, without deep supervision."""

    unet: ResidualEncoderUNet

    def _parts(self) -> dict[Part, nn.Module]:
        return {"encoder": self.unet.encoder, "segmentation": self.unet.decoder}


@dataclass(frozen=True)
class EncoderModel(Loaded[ModelConfig]):
    """The encoder of any folder."""

    encoder: ResidualEncoder

    def _parts(self) -> dict[Part, nn.Module]:
        return {"encoder": self.encoder}


@dataclass(frozen=True)
class ClassifierModel(Loaded[ClsModelConfig | ReportModelConfig]):
    """Encoder and classifier of a cls or report folder."""

    encoder: ResidualEncoder
    classifier: Classifier

    def _parts(self) -> dict[Part, nn.Module]:
        return {"encoder": self.encoder, "classifier": self.classifier}


@dataclass(frozen=True)
class ReportModel(Loaded[ReportModelConfig]):
    """Everything in a report folder; `tokenizer` is its tokenizer.json.

    `classifier_encoder` is `encoder` itself unless stage 3 trained that further.
    """

    unet: ResidualEncoderUNet
    encoder: ResidualEncoder
    classifier_encoder: ResidualEncoder
    classifier: Classifier
    uvlm: UVLM
    tokenizer: Path

    def _parts(self) -> dict[Part, nn.Module]:
        return {
            "encoder": self.encoder,
            "segmentation": self.unet.decoder,
            "classifier": self.classifier,
            "language": self.uvlm,
        }


def load_segmenter(directory: Path) -> SegmenterModel:
    """Load the U-Net of a seg or report folder."""
    config = read_config(directory, ("seg", "report"))
    assert not isinstance(config, ClsModelConfig)
    unet = build_unet(config.encoder, len(config.class_names), deep_supervision=False)
    return SegmenterModel(config, *_identity(directory), _fill(unet, directory, "unet", config))


def load_encoder(directory: Path, kinds: Sequence[str] = ("seg", "cls", "report")) -> EncoderModel:
    """Load the encoder of a model folder; `kinds` says which models are accepted."""
    config = read_config(directory, kinds)
    return EncoderModel(config, *_identity(directory), _encoder(directory, config))


def load_classifier(directory: Path) -> ClassifierModel:
    """Load classifier of a cls or report folder, and the encoder that it reads."""
    config = read_config(directory, ("cls", "report"))
    assert not isinstance(config, SegModelConfig)
    name = "encoder" if isinstance(config, ClsModelConfig) else config.classifier_encoder
    modules = _encoder(directory, config, name), _classifier(directory, config)
    return ClassifierModel(config, *_identity(directory), *modules)


def load_report_model(directory: Path) -> ReportModel:
    """Load all modules of a report folder and the path of its tokenizer."""
    config = read_config(directory, ("report",))
    assert isinstance(config, ReportModelConfig)
    tokenizer = directory / "tokenizer.json"
    if not tokenizer.is_file():
        raise DataError(tokenizer, "no such file", _REMEDY)
    parts = config.encoder, config.decoder, config.injection, config.grid
    words = config.vocabulary_size, config.specials
    cue_sizes = CueSizes.of(config.abnormalities, config.attributes, config.classifier.num_queries)
    uvlm = build_uvlm(*parts, *words, _qwen(directory, config), cue_sizes)
    _fill(uvlm, directory, "decoder", config)
    if isinstance(uvlm.decoder, QwenDecoder):
        uvlm.decoder.merge_adapter()
    encoder = own = _encoder(directory, config)
    if config.classifier_encoder != "encoder":
        own = _encoder(directory, config, config.classifier_encoder)
    classifier, unet = _classifier(directory, config), load_segmenter(directory).unet
    modules = unet, encoder, own, classifier, uvlm
    return ReportModel(config, *_identity(directory), *modules, tokenizer)


def _encoder(directory: Path, config: ModelConfig, name: str = "encoder") -> ResidualEncoder:
    return _fill(build_encoder(config.encoder), directory, name, config)


def _classifier(directory: Path, config: ClsModelConfig | ReportModelConfig) -> Classifier:
    sizes = len(config.abnormalities), len(config.attributes)
    classifier = build_classifier(config.encoder, config.classifier, config.grid, *sizes)
    return _fill(classifier, directory, "classifier", config)


def _qwen(directory: Path, config: ReportModelConfig) -> QwenOrigin | None:
    """Find what a Qwen3 decoder is built from; an adapter needs the weights it was trained on."""
    if config.decoder.kind == "scratch":
        return None
    if config.pretrained is None:
        fact = f"decoder.kind is {config.decoder.kind} but `pretrained` is missing"
        raise DataError(directory / "config.json", fact, _REMEDY)
    if config.decoder.kind == "qwen3_lora":
        return qwen_trained_on(config.pretrained)
    return QwenOrigin(config.pretrained)


def _fill(module: Module, directory: Path, name: str, config: ModelConfig) -> Module:
    """Load verified weights into a fresh module and switch it to evaluation mode."""
    load_weights(module, read_weights(directory, name, config), directory / f"{name}.safetensors")
    return module.eval()


def _identity(directory: Path) -> tuple[dict[str, Any], str]:
    """Read the contract and the sha256 of the model."""
    return read_contract(directory), file_sha256(directory / "config.json")
