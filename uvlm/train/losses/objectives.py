"""The three objectives: batch -> named loss terms, whose sum is minimised.

B batch, C classes, A abnormalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from uvlm.train.batches import ClsBatch, ReportBatch, SegBatch
from uvlm.train.losses.losses import deep_supervision_loss


class Objective(Protocol):
    """What a training minimises."""

    @property
    def name(self) -> str:
        """`seg`, `cls` or `report`."""
        ...

    def loss(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Scalar terms by name."""
        ...


@dataclass(frozen=True, eq=False)
class SegObjective:
    """Stage 1 (eq. 1): Dice + cross-entropy on every resolution the network returns."""

    weights: Tensor  # (C,)
    level_weights: Sequence[float] = (1.0,)
    dice_classes: Literal["all", "present"] = "present"
    name: str = "seg"

    def loss(self, model: nn.Module, batch: SegBatch) -> dict[str, Tensor]:
        outputs = model(batch.x)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        weights = self.weights.to(batch.x.device)
        return deep_supervision_loss(
            outputs, batch.target, weights, self.level_weights, self.dice_classes
        )


@dataclass(frozen=True, eq=False)
class ClsObjective:
    """Stage 2 (eq. 2): binary cross-entropy of every abnormality; positives may weigh more."""

    name: str = "cls"
    pos_weight: Tensor | None = None  # (A,)

    def loss(self, model: nn.Module, batch: ClsBatch) -> dict[str, Tensor]:
        logits = model(batch.x)  # (B, A)
        weight = None if self.pos_weight is None else self.pos_weight.to(logits.device)
        bce = F.binary_cross_entropy_with_logits(logits, batch.abnormalities, pos_weight=weight)
        return {"bce": bce}


@dataclass(frozen=True)
class ReportObjective:
    """Stage 3 (eq. 3): cross-entropy of report tokens and <eos>, given the visual tokens."""

    name: str = "report"

    def loss(self, model: nn.Module, batch: ReportBatch) -> dict[str, Tensor]:
        if batch.weights is None:
            return {"ce": model(batch.x, batch.token_ids)}
        return {"ce": model(batch.x, batch.token_ids, batch.weights)}
