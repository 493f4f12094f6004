"""Exponential moving average of the trained weights, for validation and for the saved model.

    e <- d e + (1 - d) w     after every step, d = min(decay, (1 + step) / (10 + step))

so that the first weights do not dominate a short training. The averages are kept in the optimiser's
state beside its moments, so they are saved, sharded and restored with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SLOT = "ema"


@dataclass(frozen=True, eq=False)
class Ema:
    """Averages of the parameters that an optimiser trains; a decay of 0 keeps none."""

    optimizer: torch.optim.Optimizer
    decay: float

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after step number `step`, from 0; the first weights start the average."""
        if self.decay == 0:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        for parameter in self._parameters():
            state = self.optimizer.state[parameter]
            if SLOT in state:
                state[SLOT].lerp_(parameter, 1 - decay)
            else:
                state[SLOT] = parameter.detach().clone()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Swap the averages in for the weights, and back at the end."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter in self._parameters():
            average: Tensor | None = self.optimizer.state[parameter].get(SLOT)
            if average is not None:  # swapped in place: others hold these tensors
                weights = parameter.clone()
                parameter.copy_(average)
                average.copy_(weights)

    def _parameters(self) -> list[nn.Parameter]:
        groups = self.optimizer.param_groups if self.decay else []
        return [parameter for group in groups for parameter in group["params"]]
