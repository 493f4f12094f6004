"""Cached features of stage 2: the deepest stage of the encoder, once per case.

N cases, B batch, C channels, (D, H, W) = (z, y, x), A abnormalities.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor, nn

from uvlm.data.examples import Example
from uvlm.inference.encode import BATCH_VOXELS
from uvlm.model.attribute_head import AttributeHead
from uvlm.read_ahead import read_ahead
from uvlm.train.loop.fit import Scores
from uvlm.train.scores import classifier_scores
from uvlm.train.volume_batches import VolumeInputs, abnormality_table

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True, eq=False)
class Volumes:
    """Whole volumes of some cases, a few at a time, on the device."""

    inputs: VolumeInputs
    fabric: Fabric

    def __iter__(self) -> Iterator[Tensor]:
        """Yield batches (B, 1, D, H, W) in case order; several at once are faster than one."""
        size = max(1, BATCH_VOXELS // prod(self.inputs.preprocess.grid))
        numbers = range(len(self.inputs.examples))
        chosen = [numbers[start : start + size] for start in numbers[::size]]
        for x in read_ahead(partial(self.inputs, rng=None), chosen, self.fabric.device):
            yield self.inputs.finish(self.fabric.to_device(x))


@dataclass(frozen=True, eq=False)
class FeatureInputs:
    """The deepest features of every case, encoded once, without augmentation."""

    features: Tensor  # (N, C, D, H, W) float16, on the CPU

    @classmethod
    def of(cls, encoder: nn.Module, volumes: Volumes) -> Self:
        """Encode every volume."""
        encoder = volumes.fabric.to_device(encoder).eval()
        with torch.no_grad(), volumes.fabric.autocast():
            features = [encoder(x)[-1].to("cpu", torch.float16) for x in volumes]
        return cls(torch.cat(features))

    def __call__(self, chosen: Sequence[int], rng: np.random.Generator | None) -> Tensor:
        return self.features[chosen].float()

    def finish(self, x: Tensor) -> Tensor:
        """Return the features as they are: nothing is left for the device."""
        return x


@torch.no_grad()
def mirrored_averages(encoder: nn.Module, volumes: Volumes, head: AttributeHead) -> Tensor:
    """Encode every volume with right and left exchanged, and pool it as `head` does: (N, F)."""
    encoder, parts = volumes.fabric.to_device(encoder).eval(), list[Tensor]()
    for x in volumes:
        with volumes.fabric.autocast():
            deepest = encoder(x.flip(-1))[-1]
        # In half precision, as features are cached.
        tokens = deepest.to(torch.float16).float().flatten(2).transpose(1, 2)
        parts.append(head.pooled(tokens))
    return torch.cat(parts)


@dataclass(frozen=True, eq=False)
class ClsValidation:
    """F1, AUROC and thresholds over validation cases.

    `inputs` yields what the model takes, one or several cases at a time, in case order.
    """

    inputs: Iterable[Tensor]
    examples: Sequence[Example]
    names: Sequence[str]

    def __call__(self, model: nn.Module) -> Scores:
        """Validate `model`."""
        logits = torch.cat([model(x).float().cpu() for x in self.inputs])
        probabilities = torch.sigmoid(logits).double().numpy()
        return classifier_scores(probabilities, abnormality_table(self.examples), self.names)
