"""Every number of a run, typed: frozen pydantic sections that mirror params.yaml.

A section carries the name of the stage that reads it; `encoder`, `decoder` and `injection` are
shared by the stages that build those modules. Unknown keys are refused with the nearest valid one.
Device, workers, paths and tracking are environment variables, never parameters: changing them
must not invalidate a stage.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from uvlm.errors import ConfigError

Grid = tuple[int, int, int]
Fraction = float


class Section(BaseModel):
    """A block of parameters: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PhantomConfig(Section):
    """What the synthetic chest CT data set contains."""

    train_patients: int = Field(ge=4)
    test_patients: int = Field(ge=2)
    shape: Grid
    prevalence: Fraction = Field(gt=0, lt=1)
    second_scan_fraction: Fraction = Field(ge=0, le=1)
    second_reconstruction_fraction: Fraction = Field(ge=0, le=1)
    noise_hu: float = Field(ge=0)
    defects: bool


class DownloadConfig(Section):
    """Where raw volumes, reports, labels and lesion masks come from."""

    source: Literal["phantom", "ct_rate", "abdomen_atlas", "folder"]
    revision: str | None = None
    phantom: PhantomConfig | None = None

    @model_validator(mode="after")
    def _phantom_source_has_phantom_numbers(self) -> Self:
        if self.source == "phantom" and self.phantom is None:
            raise ValueError("source is phantom but the section phantom is missing")
        return self


class IndexConfig(Section):
    """How cases are split and how many may be refused before the run stops."""

    val_fraction: Fraction = Field(gt=0, lt=1)
    max_quarantined_share: Fraction = Field(ge=0, le=1)


class PreprocessConfig(Section):
    """The preprocessing contract that travels with every checkpoint."""

    orientation: Literal["LPS"]
    clip_hu: tuple[int, int]
    grid: Grid
    resize: Literal["stretch", "resample_pad"]
    spacing_mm: tuple[float, float, float] | None = None
    normalise: Literal["window", "zscore"]
    window_hu: tuple[int, int]

    @model_validator(mode="after")
    def _ranges_ascend(self) -> Self:
        for name, (low, high) in (("clip_hu", self.clip_hu), ("window_hu", self.window_hu)):
            if low >= high:
                raise ValueError(f"{name} goes from {low} to {high}")
        if self.resize == "resample_pad" and self.spacing_mm is None:
            raise ValueError("resize is resample_pad but spacing_mm is missing")
        return self


class LabellerConfig(Section):
    """One source of anatomical pseudo-labels."""

    backend: str


class PseudoLabelConfig(Section):
    """The three kinds of anatomical pseudo-labels."""

    anatomy: LabellerConfig
    airway: LabellerConfig
    vessel: LabellerConfig


class LabelMapsConfig(Section):
    """Which classes the segmentation network separates."""

    dataset: Literal["chest", "abdomen"]
    scheme: Literal["coarse", "coarse_lesion", "fine_lesion"]
    priority: tuple[Literal["anatomy", "airway", "vessel", "lesion"], ...]


class TokenizerConfig(Section):
    """Byte-pair encoding of the training reports, or Qwen3's vocabulary for parity."""

    kind: Literal["bpe", "qwen3"]
    vocabulary_size: int = Field(ge=300)


class AuditConfig(Section):
    """How alike two images on different sides of a split may be, in units of their own spread."""

    near_duplicate: float = Field(gt=0, lt=1)


class EncoderConfig(Section):
    """ResidualEncoderUNet: one entry per stage, shallow to deep."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    blocks: tuple[int, ...]
    decoder_convs: int = Field(ge=1)

    @model_validator(mode="after")
    def _one_entry_per_stage(self) -> Self:
        lengths = {len(self.channels), len(self.strides), len(self.blocks)}
        if len(lengths) != 1:
            raise ValueError(
                f"{len(self.channels)} channels, {len(self.strides)} strides, "
                f"{len(self.blocks)} blocks: one of each per stage"
            )
        return self


class ClassifierConfig(Section):
    """Query pooling over the deepest stage (paper eq. 2)."""

    num_queries: int = Field(ge=1)
    heads: int = Field(ge=1)
    dropout: Fraction = Field(ge=0, lt=1)


class DecoderConfig(Section):
    """The language decoder."""

    kind: Literal["scratch", "qwen3_lora", "qwen3_full"]
    layers: int = Field(ge=1)
    width: int = Field(ge=8)
    heads: int = Field(ge=1)
    ffn: int = Field(ge=8)
    dropout: Fraction = Field(ge=0, lt=1)
    max_report_tokens: int = Field(ge=8)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is not a multiple of 2 x {self.heads} heads")
        return self


class InjectionConfig(Section):
    """Alignment (eq. 4) and multi-layer injection (eq. 5); stages and layers count from 1."""

    kind: Literal["multi_layer", "input_only"]
    reference_stage: int = Field(ge=1)
    layer_by_stage: dict[int, int]
    pooling: Literal["average", "max"]
    projection: Literal["linear", "mlp"]
    input_tokens: Literal["reference", "zeros"]


class OptimConfig(Section):
    """Optimiser and learning-rate schedule of one training."""

    optimizer: Literal["sgd", "adamw"]
    lr: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    warmup_steps: int = Field(ge=0)
    schedule: Literal["cosine", "poly", "constant"]
    clip_norm: float = Field(gt=0)


class AugmentConfig(Section):
    """Intensity and mild spatial augmentation; no mirroring, laterality is in the text."""

    noise_std: float = Field(ge=0)
    shift_std: float = Field(ge=0)
    scale_std: float = Field(ge=0)
    gamma_std: float = Field(ge=0)
    roll_voxels: Grid


class TrainConfig(Section):
    """What the three trainings share. `steps: 0` writes the starting weights unchanged."""

    steps: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    accumulate: int = Field(ge=1)
    optim: OptimConfig
    augment: AugmentConfig
    balanced_fraction: Fraction = Field(ge=0, le=1)
    log_every: int = Field(ge=1)
    val_every: int = Field(ge=1)
    val_cases: int = Field(ge=1)
    checkpoint_every: int = Field(ge=1)


class TrainSegConfig(TrainConfig):
    """Stage 1: Dice + cross-entropy on patches of the whole volume.

    `deep_supervision` weighs the resolutions, full first; one entry switches it off.
    """

    patch: Grid
    foreground_fraction: Fraction = Field(ge=0, le=1)
    deep_supervision: tuple[float, ...] = Field(min_length=1)
    dice_classes: Literal["all", "present"]
    ce_weight_power: float = Field(ge=0)
    ce_weight_cap: float = Field(ge=1)


class TrainClsConfig(TrainConfig):
    """Stage 2: query classifier on whole volumes; the head is warmed up on cached features."""

    head_warmup_steps: int = Field(ge=0)
    head_warmup_lr: float = Field(gt=0)
    head_warmup_batch_size: int = Field(ge=1)
    encoder_lr_scale: float = Field(ge=0)


class EncodeConfig(Section):
    """How the frozen encoder's aligned tokens are stored."""

    dtype: Literal["float16", "float32"]


class TrainReportConfig(TrainConfig):
    """Stage 3: report generation; `encoder_lr_scale: 0` trains on cached features."""

    encoder_lr_scale: float = Field(ge=0)
    feature_noise_std: float = Field(ge=0)
    standardise_features: bool
    adam_beta2: float = Field(gt=0, lt=1)


class GenerateConfig(Section):
    """Decoding of test reports: `temperature: 0` is greedy."""

    batch_size: int = Field(ge=1)
    temperature: float = Field(ge=0)


class EvaluateConfig(Section):
    """Labeller and intervals."""

    labeller: Literal["phantom", "rules", "radbert", "llm"]
    bootstrap_samples: int = Field(ge=0)


class SummarizeConfig(Section):
    """What the summary page shows."""

    num_examples: int = Field(ge=1)


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


def parse_params(document: object, source: object) -> Params:
    """Validate a parsed params document; `source` names it in the error."""
    try:
        return Params.model_validate(document)
    except ValidationError as error:
        facts = [_describe(problem) for problem in error.errors()]
        raise ConfigError(source, "; ".join(facts)) from None


def _describe(problem: Any) -> str:
    """One problem of a ValidationError in words, with the nearest valid key for a typo."""
    *parents, name = [str(part) for part in problem["loc"]] or ["params"]
    key = ".".join([*parents, name])
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg']}"
    valid = sorted(_keys_under(parents))
    nearest = difflib.get_close_matches(name, valid, n=1, cutoff=0.0)
    return f"unknown parameter {key}; nearest valid key is {'.'.join([*parents, *nearest])}"


def _keys_under(parents: list[str]) -> set[str]:
    """Names of the valid keys of the section at this path."""
    section: Any = Params
    for name in parents:
        annotation = section.model_fields[name].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        section = next(c for c in candidates if isinstance(c, type) and issubclass(c, Section))
    return set(section.model_fields)
