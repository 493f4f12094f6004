"""Optimiser and its parameter groups: encoder or rest, decayed or not.

Weight decay acts on the weights of linear and convolution layers only: not on biases, norms,
embeddings, learned queries or positions. `encoder_lr_scale: 0` freezes the encoder.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from uvlm.config import OptimConfig
from uvlm.train.schedule import lr_factor

ENCODER = "encoder."


def parameter_groups(
    model: nn.Module, config: OptimConfig, encoder_lr_scale: float = 1.0
) -> list[dict[str, Any]]:
    """Group parameters for an optimiser; those of a frozen encoder stop requiring gradients.

    Args:
        model: parameters whose name starts with `encoder.` form the encoder.
        config: base learning rate and weight decay.
        encoder_lr_scale: factor on the encoder's learning rate; 0 leaves it out.

    Returns:
        Up to four groups, each with `lr`, `base_lr` and `weight_decay`.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        in_encoder = name.startswith(ENCODER)
        if in_encoder and encoder_lr_scale == 0:
            parameter.requires_grad_(False)
        if not parameter.requires_grad:
            continue
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
) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW, over `parameter_groups`."""
    groups = parameter_groups(model, config, encoder_lr_scale)
    if config.optimizer == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, beta2))


def set_learning_rate(
    optimizer: torch.optim.Optimizer, step: int, steps: int, config: OptimConfig
) -> float:
    """Put every group at its learning rate for this step; returns the schedule's factor."""
    factor = lr_factor(step, steps, config)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return factor
