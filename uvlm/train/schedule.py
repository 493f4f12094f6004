"""Learning rate as a pure function of the step: linear warm-up, then cosine, poly or constant."""

from __future__ import annotations

import math

from uvlm.config import OptimConfig

POLY_POWER = 0.9


def lr_factor(step: int, steps: int, config: OptimConfig) -> float:
    """Fraction of the base learning rate at `step` (0-based) of `steps`.

    Rises to 1 over the warm-up steps; after them cosine and poly fall to 0 at the end.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    if config.schedule == "poly":
        return float(max(0.0, 1 - done) ** POLY_POWER)
    return 1.0
