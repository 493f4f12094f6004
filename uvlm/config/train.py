"""Sections of the three trainings."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from uvlm.config.section import Fraction, Grid, Section, forbid

_MINUTES: Final = 10
_Voxels = Annotated[int, Field(ge=0)]


class OptimConfig(Section):
    """Optimiser and learning-rate schedule of one training."""

    optimizer: Literal["sgd", "adamw"]
    lr: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    warmup_steps: int = Field(ge=0)
    schedule: Literal["cosine", "poly", "constant"]
    clip_norm: float = Field(gt=0)


class Chance(Section):
    """A change that happens with this probability, its strength drawn between two bounds."""

    probability: Fraction = Field(ge=0, le=1)
    between: tuple[float, float]

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        low, high = self.between
        forbid((low > high, f"between: {low:g} is above {high:g}"))
        return self


class SpatialConfig(Section):
    """Rotation about the three axes (degrees) and scaling (above 1 shows more, smaller)."""

    rotation_deg: Chance
    scaling: Chance

    @field_validator("scaling")
    @classmethod
    def _never_mirrors(cls, scaling: Chance) -> Chance:
        low = scaling.between[0]
        forbid((low <= 0, f"{low:g} would mirror the image or shrink it to nothing; use above 0"))
        return scaling


class IntensityConfig(Section):
    """nnU-Net's changes of intensity, in the order of their application."""

    noise: Chance  # standard deviation
    blur: Chance  # sigma in voxels, for each axis
    brightness: Chance  # factor
    contrast: Chance  # factor
    low_resolution: Chance  # voxels kept along every axis, as a share
    inverted_gamma: Chance  # exponent
    gamma: Chance  # exponent


class AugmentConfig(Section):
    """Small changes to every item, and nnU-Net's larger ones to some.

    Nothing is mirrored, because reports name sides.
    """

    noise_std: float = Field(ge=0)
    shift_std: float = Field(ge=0)
    scale_std: float = Field(ge=0)
    gamma_std: float = Field(ge=0)
    roll_voxels: tuple[_Voxels, _Voxels, _Voxels]
    spatial: SpatialConfig
    intensity: IntensityConfig

    def is_identity(self) -> bool:
        """Whether nothing is ever changed."""
        numbers = (self.noise_std, self.shift_std, self.scale_std, self.gamma_std)
        chances = (*dict(self.spatial).values(), *dict(self.intensity).values())
        return not any((*numbers, *self.roll_voxels, *(c.probability for c in chances)))


class TrainConfig(Section):
    """What the three trainings share. `steps: 0` writes the starting weights unchanged.

    `ema_decay` above 0 validates and saves a moving average of the weights.
    `gradient_checkpointing` recomputes the blocks of the encoder and the layers of the language
    decoder in the backward pass, to save memory.
    A state to continue from is saved every `checkpoint_minutes`; 0 saves it after every step.
    `balanced_fraction` is the share of training cases drawn so that abnormalities occur equally.
    """

    steps: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    accumulate: int = Field(ge=1)
    gradient_checkpointing: bool
    ema_decay: float = Field(ge=0, lt=1)
    optim: OptimConfig
    augment: AugmentConfig
    balanced_fraction: Fraction = Field(ge=0, le=1)
    log_every: int = Field(ge=1)
    val_every: int = Field(ge=1)
    val_cases: int = Field(ge=1)
    checkpoint_minutes: float = Field(ge=0)

    @model_validator(mode="before")
    @classmethod
    def _steps_become_minutes(cls, values: Any) -> Any:
        """Read what an earlier release wrote, which counted steps from one save to the next."""
        if not isinstance(values, dict) or "checkpoint_every" not in values:
            return values
        rest = {key: value for key, value in values.items() if key != "checkpoint_every"}
        return {"checkpoint_minutes": _MINUTES, **rest}


class TrainSegConfig(TrainConfig):
    """Stage 1: Dice + cross-entropy on patches of the whole volume.

    `deep_supervision` weighs the resolutions, full first; one entry switches it off.
    `initial_weights` is the digest of the model folder in $UVLM_INITIAL_WEIGHTS to start from.
    """

    initial_weights: str | None = Field(pattern=r"^sha256:[0-9a-f]{12,64}$")
    patch: Grid
    foreground_fraction: Fraction = Field(ge=0, le=1)
    deep_supervision: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1)
    dice_classes: Literal["all", "present"]
    ce_weight_power: float = Field(ge=0)
    ce_weight_cap: float = Field(ge=1)


class TrainClsConfig(TrainConfig):
    """Stage 2: query classifier on whole volumes; its head is first warmed up on cached features.

    `pos_weight: balanced` weighs a positive by the number of negatives per positive in training, at
    most `pos_weight_cap`. `frozen_stages` of the encoder, counted from 1, keep their weights.
    `shuffle_labels` is a negative control: every case gets the labels of another patient.
    `evidence_folds` further heads, each trained without a share of the patients, say of that share
    what a classifier says of a CT that it has never met; 0 trains none.
    """

    head_warmup_steps: int = Field(ge=0)
    head_warmup_lr: float = Field(gt=0)
    head_warmup_batch_size: int = Field(ge=1)
    encoder_lr_scale: float = Field(ge=0)
    frozen_stages: tuple[int, ...]
    pos_weight: Literal["none", "balanced"]
    pos_weight_cap: float = Field(ge=1)
    shuffle_labels: bool = False  # as an earlier release, which has no such key
    evidence_folds: int = Field(ge=0, default=0)

    @model_validator(mode="after")
    def _folds_can_be_trained(self) -> Self:
        few = (
            f"evidence_folds {self.evidence_folds} leaves nobody to train on; use 0, or 2 and more"
        )
        forbid(
            (self.evidence_folds == 1, few),
            (self.evidence_folds > 0 and not self.head_warmup_steps,
             "evidence_folds train as the warm-up of the head does; raise head_warmup_steps"),
        )  # fmt: skip
        return self


class TrainReportConfig(TrainConfig):
    """Stage 3: report generation; `encoder_lr_scale: 0` trains on cached features.

    `augment` changes the volumes that the encoder reads: at every step if it is trained too, else
    in the cached views after the first. `frozen_stages` of the encoder keep their weights.
    `shuffle_reports` is a negative control: every case gets the report of another patient.
    `cue_dropout` hides single cues from a training step, `cue_case_dropout` all cues of a case;
    `cue_truth` is the chance of a cue to say what the training report says, see cue_controls.py.
    `deciding_weight` is what a word counts in the loss without which its sentence says something
    else; other words count 1. Visual tokens of an effective rank below `least_visual_rank` are
    warned of.
    """

    encoder_lr_scale: float = Field(ge=0)
    frozen_stages: tuple[int, ...]
    feature_noise_std: float = Field(ge=0)
    standardise_features: bool
    shuffle_reports: bool = False
    cue_dropout: Fraction = Field(ge=0, le=1, default=0.0)
    cue_case_dropout: Fraction = Field(ge=0, le=1, default=0.0)
    cue_truth: Fraction = Field(ge=0, le=1, default=0.0)
    deciding_weight: float = Field(ge=1, le=100, default=1.0)
    least_visual_rank: float = Field(ge=0, default=0.0)
    adam_beta2: float = Field(gt=0, lt=1)
