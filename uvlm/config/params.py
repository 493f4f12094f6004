"""The whole params.yaml, read and validated."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import ValidationError, model_validator

from uvlm.config.data import (
    AuditConfig,
    DownloadConfig,
    IndexConfig,
    LabelMapsConfig,
    PreprocessConfig,
    PseudoLabelConfig,
)
from uvlm.config.evaluate import (
    EncodeConfig,
    EvaluateConfig,
    GenerateConfig,
    SummarizeConfig,
)
from uvlm.config.model import (
    ClassifierConfig,
    DecoderConfig,
    EncoderConfig,
    InjectionConfig,
    TokenizerConfig,
)
from uvlm.config.section import Section
from uvlm.config.train import (
    TrainClsConfig,
    TrainReportConfig,
    TrainSegConfig,
)
from uvlm.errors import ConfigError

_Section = TypeVar("_Section", bound=Section)


class Params(Section):
    """The whole params.yaml."""

    profile: str
    seed: int
    download: DownloadConfig
    index: IndexConfig
    preprocess: PreprocessConfig
    pseudo_label: PseudoLabelConfig
    label_maps: LabelMapsConfig
    tokenizer: TokenizerConfig
    audit: AuditConfig
    encoder: EncoderConfig
    classifier: ClassifierConfig
    decoder: DecoderConfig
    injection: InjectionConfig
    train_seg: TrainSegConfig
    train_cls: TrainClsConfig
    encode: EncodeConfig
    train_report: TrainReportConfig
    generate: GenerateConfig
    evaluate: EvaluateConfig
    summarize: SummarizeConfig

    @model_validator(mode="after")
    def _every_supervised_resolution_exists(self) -> Self:
        num_weights = len(self.train_seg.deep_supervision)
        if num_weights >= len(self.encoder.channels):
            raise ValueError(
                f"train_seg.deep_supervision has {num_weights} weights but a U-Net of "
                f"{len(self.encoder.channels)} stages has {len(self.encoder.channels) - 1} outputs"
            )
        return self

    @model_validator(mode="after")
    def _no_setting_is_without_effect(self) -> Self:
        report, injection = self.train_report, self.injection
        frozen = "does nothing while encoder_lr_scale is 0"
        settings = (
            (report.gradient_checkpointing and not report.encoder_lr_scale,
             f"train_report.gradient_checkpointing {frozen}"),
            (report.frozen_stages and not report.encoder_lr_scale,
             f"train_report.frozen_stages {frozen}"),
            (self.train_cls.frozen_stages and not self.train_cls.encoder_lr_scale,
             f"train_cls.frozen_stages {frozen}"),
            (injection.kind == "input_only" and injection.gate != "none",
             "injection.gate does nothing while injection.kind is input_only"),
            (injection.kind == "input_only" and injection.position != "before_layer",
             "injection.position does nothing while injection.kind is input_only"),
        )  # fmt: skip
        for is_dead, fact in settings:
            if is_dead:
                raise ValueError(fact)
        return self

    @model_validator(mode="after")
    def _frozen_stages_exist(self) -> Self:
        num_stages = len(self.encoder.channels)
        for name, section in (("train_cls", self.train_cls), ("train_report", self.train_report)):
            for stage in section.frozen_stages:
                if not 1 <= stage <= num_stages:
                    raise ValueError(
                        f"{name}.frozen_stages has stage {stage} but encoder has {num_stages} "
                        "stages, from 1"
                    )
        return self

    @model_validator(mode="after")
    def _views_differ(self) -> Self:
        if self.encode.views > 1 and self.train_report.augment.is_identity():
            raise ValueError(
                f"encode.views is {self.encode.views} but train_report.augment changes nothing"
            )
        return self

    @model_validator(mode="after")
    def _qwen_reads_its_own_vocabulary(self) -> Self:
        if self.decoder.kind != "scratch" and self.tokenizer.kind != "qwen3":
            raise ValueError(
                f"decoder.kind {self.decoder.kind} needs tokenizer.kind qwen3, "
                f"not {self.tokenizer.kind}"
            )
        return self

    @model_validator(mode="after")
    def _reports_fit_the_decoder(self) -> Self:
        limit = self.decoder.max_report_tokens
        longest = max(self.generate.max_tokens or 0, self.generate.min_tokens)
        if longest > limit:
            raise ValueError(
                f"generate asks for {longest} tokens but decoder.max_report_tokens is {limit}"
            )
        return self

    @model_validator(mode="after")
    def _stages_and_layers_exist(self) -> Self:
        num_stages = len(self.encoder.channels)
        if self.injection.reference_stage > num_stages:
            raise ValueError(
                f"injection.reference_stage is {self.injection.reference_stage} "
                f"but encoder has {num_stages} stages"
            )
        for stage, layer in self.injection.layer_by_stage.items():
            if not 1 <= stage <= num_stages or not 1 <= layer <= self.decoder.layers:
                raise ValueError(
                    f"injection.layer_by_stage maps stage {stage} to layer {layer} but there are "
                    f"{num_stages} stages and {self.decoder.layers} layers"
                )
        return self


def load_params(path: Path) -> Params:
    """Read and validate params.yaml; every problem is named in one ConfigError."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(path, "no such file", "run `uvlm use phantom` to compose it") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"not readable as YAML ({error})", "compose it again") from None
    return parse_params(document, path)


def params_here() -> Params | None:
    """Read params.yaml of this folder, if there is one."""
    path = Path("params.yaml")
    return load_params(path) if path.exists() else None


def parse_params(document: object, subject: object) -> Params:
    """Validate a parsed params document; `subject` names it in the error."""
    return parse_section(Params, document, subject)


def parse_section(section: type[_Section], document: object, subject: object) -> _Section:
    """Validate the values of one section."""
    try:
        return section.model_validate(document)
    except ValidationError as error:
        facts = [_describe(problem, section) for problem in error.errors()]
        raise ConfigError(subject, "; ".join(facts)) from None


def _describe(problem: Any, section: type[Section]) -> str:
    """One problem of a ValidationError in words, with the nearest valid key for a typo."""
    *parents, name = [str(part) for part in problem["loc"]] or ["params"]
    key = ".".join([*parents, name])
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg']}"
    valid = sorted(_keys_under(parents, section))
    nearest = difflib.get_close_matches(name, valid, n=1, cutoff=0.0)
    return f"unknown parameter {key}; nearest valid key is {'.'.join([*parents, *nearest])}"


def _keys_under(parents: list[str], section: Any) -> set[str]:
    """Names of the valid keys of the section at this path."""
    for name in parents:
        annotation = section.model_fields[name].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        section = next(c for c in candidates if isinstance(c, type) and issubclass(c, Section))
    return set(section.model_fields)
