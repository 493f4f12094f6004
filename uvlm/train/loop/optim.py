"""Optimiser and its parameter groups: encoder or rest, decayed or not.

Weight decay acts on the weights of linear and convolution layers only: not on biases, norms,
embeddings (including the tied output layer), learned queries or positions. `encoder_lr_scale: 0`
freezes the encoder, `frozen_stages` some of its stages; stage 1 includes the stem.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Final

import torch
from torch import nn

from uvlm.config import OptimConfig

ENCODER = "encoder."
POLY_POWER = 0.9
_HAS_FUSED: Final = frozenset({"cpu", "cuda"})


def parameter_groups(
    model: nn.Module,
    config: OptimConfig,
    encoder_lr_scale: float = 1.0,
    frozen_stages: Collection[int] = (),
) -> list[dict[str, Any]]:
    """Group parameters for an optimiser; frozen ones are left out and stop requiring gradients.

    Args:
        model: parameters whose name starts with `encoder.` form the encoder.
        config: base learning rate and weight decay.
        encoder_lr_scale: factor on the encoder's learning rate; 0 freezes all of it.
        frozen_stages: stages of the encoder to freeze, from 1.

    Returns:
        Up to four groups, each with `lr`, `base_lr` and `weight_decay`.
    """
    # By identity: a tied output layer is an embedding under another name.
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        in_encoder = name.startswith(ENCODER)
        if in_encoder and (encoder_lr_scale == 0 or _stage_of(name) in frozen_stages):
            parameter.requires_grad_(False)
        if not parameter.requires_grad:
            continue
        # Norms and biases have one axis; learned queries and positions are not named weight.
        is_matrix = name.endswith("weight") and parameter.ndim > 1
        decays = is_matrix and id(parameter) not in embeddings
        lr = config.lr * (encoder_lr_scale if in_encoder else 1.0)
        decay = config.weight_decay if decays else 0.0
        empty: dict[str, Any] = {"params": [], "lr": lr, "base_lr": lr, "weight_decay": decay}
        groups.setdefault((in_encoder, decays), empty)["params"].append(parameter)
    return list(groups.values())


def build_optimizer(
    model: nn.Module,
    config: OptimConfig,
    encoder_lr_scale: float = 1.0,
    beta2: float = 0.999,
    frozen_stages: Collection[int] = (),
) -> torch.optim.Optimizer:
    """Build SGD with Nesterov momentum, or AdamW, over `parameter_groups`.

    AdamW updates in one fused pass, without a copy of all weights beside them, wherever torch has
    kernels for it.
    """
    groups = parameter_groups(model, config, encoder_lr_scale, frozen_stages)
    if config.optimizer == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov)
    places = {parameter.device.type for group in groups for parameter in group["params"]}
    fused = places <= _HAS_FUSED or None  # not on the `meta` device of estimates
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, beta2), fused=fused)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, step: int, steps: int, config: OptimConfig
) -> float:
    """Set every group's learning rate for this step; return the schedule's factor."""
    factor = lr_factor(step, steps, config)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return factor


def _stage_of(name: str) -> int:
    """Read the stage (from 1) off the name `encoder.stages.<index>...` or `encoder.stem...`."""
    part, index, *_ = name.removeprefix(ENCODER).split(".")
    return int(index) + 1 if part == "stages" else 1


def lr_factor(step: int, steps: int, config: OptimConfig) -> float:
    """Compute the fraction of the base learning rate at `step` (from 0) of `steps`.

    It rises to 1 over the warm-up steps; then cosine and poly fall to 0 at the end.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    if config.schedule == "poly":
        return float(max(0.0, 1 - done) ** POLY_POWER)
    return 1.0
