"""Settings of `uvlm overfit`; not in params.yaml, because the command needs no project."""

from __future__ import annotations

from pydantic import Field

from uvlm.config import EncoderConfig, Fraction, Grid, OptimConfig, Section


class OverfitConfig(Section):
    """Sizes, steps and optimiser, small enough for a 2-core laptop to finish in minutes."""

    seed: int = 42
    grid: Grid = (48, 64, 64)
    patch: Grid = (24, 32, 32)
    encoder: EncoderConfig = EncoderConfig(
        channels=(12, 24, 48, 64, 64, 64),
        strides=(1, 2, 2, 2, 1, 1),
        blocks=(1, 1, 1, 1, 1, 1),
        decoder_convs=1,
    )
    steps: int = Field(default=1500, ge=1)
    batch_size: int = Field(default=2, ge=1)
    foreground_fraction: Fraction = Field(default=0.7, ge=0, le=1)
    deep_supervision: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125)
    ce_weight_power: float = Field(default=0.4, ge=0)
    ce_weight_cap: float = Field(default=20.0, ge=1)
    optim: OptimConfig = OptimConfig(
        optimizer="adamw",
        lr=1e-2,
        momentum=0.9,
        weight_decay=1e-3,
        warmup_steps=30,
        schedule="cosine",
        clip_norm=12.0,
    )
    clip_hu: tuple[int, int] = (-1024, 3071)
    window_hu: tuple[int, int] = (-200, 300)
