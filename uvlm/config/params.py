"""The whole params.yaml, read and validated."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from uvlm.config import data, model
from uvlm.config.evaluate import EncodeConfig, EvaluateConfig, GenerateConfig, SummarizeConfig
from uvlm.config.section import Section, forbid
from uvlm.config.train import TrainClsConfig, TrainReportConfig, TrainSegConfig
from uvlm.errors import ConfigError

_Section = TypeVar("_Section", bound=Section)


class Params(Section):
    """The whole params.yaml."""

    profile: str
    seed: int = Field(ge=0)
    download: data.DownloadConfig
    index: data.IndexConfig
    preprocess: data.PreprocessConfig
    pseudo_label: data.PseudoLabelConfig
    label_maps: data.LabelMapsConfig
    tokenizer: model.TokenizerConfig
    audit: data.AuditConfig
    encoder: model.EncoderConfig
    classifier: model.ClassifierConfig
    decoder: model.DecoderConfig
    injection: model.InjectionConfig
    train_seg: TrainSegConfig
    train_cls: TrainClsConfig
    encode: EncodeConfig
    train_report: TrainReportConfig
    generate: GenerateConfig
    evaluate: EvaluateConfig
    summarize: SummarizeConfig

    @model_validator(mode="after")
    def _no_setting_is_without_effect(self) -> Self:
        cls, report, injection = self.train_cls, self.train_report, self.injection
        frozen = "does nothing while encoder_lr_scale is 0"
        input_only = "does nothing while injection.kind is input_only"
        has_cues = injection.cues != "none"
        no_cues = "does nothing without injection.cues"
        forbid(
            (report.frozen_stages and not report.encoder_lr_scale,
             f"train_report.frozen_stages {frozen}"),
            (cls.frozen_stages and not cls.encoder_lr_scale, f"train_cls.frozen_stages {frozen}"),
            (injection.kind == "input_only" and injection.gate != "none",
             f"injection.gate {input_only}"),
            (injection.kind == "input_only" and injection.position != "before_layer",
             f"injection.position {input_only}"),
            (has_cues and not self.train_cls.evidence_folds,
             "injection.cues need evidence of training cases; raise train_cls.evidence_folds"),
            (self.train_cls.evidence_folds and not has_cues,
             "train_cls.evidence_folds are for cues; set injection.cues"),
            (has_cues and report.encoder_lr_scale > 0,
             "injection.cues need a frozen encoder; set train_report.encoder_lr_scale 0"),
            (not has_cues and (report.cue_dropout > 0 or report.cue_case_dropout > 0),
             f"train_report.cue_dropout {no_cues}"),
            (not has_cues and report.cue_truth > 0, f"train_report.cue_truth {no_cues}"),
            (self.generate.cue_guidance > 0 and not report.cue_case_dropout,
             "generate.cue_guidance compares with reports without cues, which are learned with "
             "train_report.cue_case_dropout above 0"),
            (injection.pooled != "none" and report.encoder_lr_scale > 0,
             "injection.pooled needs a frozen encoder; set train_report.encoder_lr_scale 0"),
            (not has_cues and injection.cue_tokens != "one", f"injection.cue_tokens {no_cues}"),
            (not has_cues and injection.cue_readout, f"injection.cue_readout {no_cues}"),
            (injection.cues in ("none", "presence") and injection.cue_values != "graded",
             "injection.cue_values does nothing without cues of attributes"),
            (injection.cues in ("none", "attributes") and self.generate.cue_shift != 0,
             "generate.cue_shift does nothing without cues of presence"),
            (injection.cues in ("none", "attributes") and self.generate.cue_shifts,
             "generate.cue_shifts do nothing without cues of presence"),
            (injection.cues in ("attributes", "both") and not self.classifier.attributes,
             f"injection.cues {injection.cues} need classifier.attributes"),
            (self.encode.views > 1 and report.augment.is_identity(),
             f"encode.views is {self.encode.views} but train_report.augment changes nothing"),
        )  # fmt: skip
        return self

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        stages, layers = len(self.encoder.channels), self.decoder.layers
        num_weights = len(self.train_seg.deep_supervision)
        longest = max(self.generate.max_tokens or 0, self.generate.min_tokens)
        limit, reference = self.decoder.max_report_tokens, self.injection.reference_stage
        forbid(
            (num_weights >= stages,
             f"train_seg.deep_supervision has {num_weights} weights but a U-Net of {stages} stages "
             f"has {stages - 1} outputs"),
            (longest > limit,
             f"generate asks for {longest} tokens but decoder.max_report_tokens is {limit}"),
            (reference > stages,
             f"injection.reference_stage is {reference} but encoder has {stages} stages"),
            *((not 1 <= stage <= stages,
               f"{name}.frozen_stages has stage {stage} but encoder has {stages} stages, from 1")
              for name in ("train_cls", "train_report")
              for stage in getattr(self, name).frozen_stages),
            *((not 1 <= stage <= stages or not 1 <= layer <= layers,
               f"injection.layer_by_stage maps stage {stage} to layer {layer} but there are "
               f"{stages} stages and {layers} layers")
              for stage, layer in self.injection.layer_by_stage.items()),
        )  # fmt: skip
        return self

    @model_validator(mode="after")
    def _a_patch_fits(self) -> Self:
        patch, grid, whole = self.train_seg.patch, self.preprocess.grid, prod(self.encoder.strides)
        name = f"train_seg.patch {list(patch)}"
        forbid(
            (any(edge > size for edge, size in zip(patch, grid, strict=True)),
             f"{name} exceeds preprocess.grid {list(grid)}"),
            (any(edge % whole for edge in patch),
             f"{name} is not a multiple of {whole}, the product of encoder.strides"),
            (max(patch) == whole, f"{name} leaves the last stage one voxel, which has no spread"),
        )  # fmt: skip
        return self

    @model_validator(mode="after")
    def _qwen_reads_its_own_vocabulary(self) -> Self:
        kind, words = self.decoder.kind, self.tokenizer.kind
        needs = f"decoder.kind {kind} needs tokenizer.kind qwen3, not {words}"
        forbid((kind != "scratch" and words != "qwen3", needs))
        return self


def load_params(path: Path) -> Params:
    """Read and validate params.yaml; one ConfigError lists every problem."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(path, "no such file", "run `uvlm use phantom` to compose it") from None
    except (YAMLError, UnicodeDecodeError) as error:
        fact = f"not readable as YAML ({error})"
        raise ConfigError(path, fact, "compose it again with `uvlm use PROFILE`") from None
    remedy = "correct conf/ or the -S option; `uvlm params` composes params.yaml again"
    return parse_section(Params, document, path, remedy)


def params_here() -> Params | None:
    """Read params.yaml in the current folder, if there is one."""
    path = Path("params.yaml")
    return load_params(path) if path.exists() else None


def parse_params(document: object, subject: object) -> Params:
    """Validate a parsed params document; `subject` names it in the error."""
    return parse_section(Params, document, subject)


def parse_section(
    section: type[_Section], document: object, subject: object, remedy: str = ""
) -> _Section:
    """Validate the values of one section."""
    try:
        return section.model_validate(document)
    except ValidationError as error:
        facts = [_describe(problem, section) for problem in error.errors()]
        raise ConfigError(subject, "; ".join(facts), remedy) from None


def _describe(problem: Any, section: type[Section]) -> str:
    """Put one problem of a ValidationError into words; for a typo, name the nearest valid key."""
    *parents, name = [str(part) for part in problem["loc"]] or ["params"]
    key = ".".join([*parents, name])
    if problem["type"] != "extra_forbidden":
        value = problem["input"]
        found = f" (found {value!r})" if isinstance(value, str | int | float) else ""
        return f"{key}: {problem['msg'].removeprefix('Value error, ')}{found}"
    return f"unknown parameter {key}; nearest valid key is {_nearest(parents, name, section)}"


def _nearest(parents: list[str], name: str, root: type[Section]) -> str:
    """Name the likeliest key: one beside it, else those of this name elsewhere, else any beside it.

    A key may be in the wrong section or in none, as after `dvc exp run -S +steps=3`.
    """
    section: type[Section] | None = root
    for parent in parents:
        section = section and _section_of(section.model_fields[parent].annotation)
    assert section is not None
    beside = sorted(section.model_fields)
    likely = difflib.get_close_matches(name, beside, n=1)
    elsewhere = [path for path in _every_key(root) if path.rpartition(".")[2] == name]
    if not likely and elsewhere:
        return " or ".join(elsewhere)
    return ".".join([*parents, *difflib.get_close_matches(name, beside, n=1, cutoff=0.0)])


def _every_key(section: type[Section]) -> Iterator[str]:
    """Yield the dotted names of all parameters and sections."""
    for name, field in section.model_fields.items():
        yield name
        if inner := _section_of(field.annotation):
            yield from (f"{name}.{key}" for key in _every_key(inner))


def _section_of(annotation: Any) -> type[Section] | None:
    """Find the section that a field holds; an optional one is a union with None."""
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    sections = (c for c in candidates if isinstance(c, type) and issubclass(c, Section))
    return next(sections, None)
