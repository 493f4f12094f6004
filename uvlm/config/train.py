"""Sections of the three trainings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from uvlm.config.section import Fraction, Grid, Section


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


class TrainReportConfig(TrainConfig):
    """Stage 3: report generation; `encoder_lr_scale: 0` trains on cached features."""

    encoder_lr_scale: float = Field(ge=0)
    feature_noise_std: float = Field(ge=0)
    standardise_features: bool
    adam_beta2: float = Field(gt=0, lt=1)
