"""Stage 2's cached features: the deepest stage of the encoder, once per case.

N cases, B batch, C channels, (D, H, W) = (z, y, x), A abnormalities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from uvlm.config import PreprocessConfig, TrainClsConfig
from uvlm.data.examples import Example
from uvlm.inference.encode import BATCH_VOXELS
from uvlm.seeding import generator
from uvlm.train.batches import Arrays, CaseSampler, ClsBatch
from uvlm.train.loop.fit import Scores
from uvlm.train.scores import classifier_scores
from uvlm.train.volume_batches import abnormality_table, read_voxels

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True, eq=False)
class Volumes:
    """Whole volumes of some cases, a few at a time, on the device."""

    examples: Sequence[Example]
    arrays: Arrays
    preprocess: PreprocessConfig
    fabric: Fabric

    def __iter__(self) -> Iterator[Tensor]:
        """Yield batches (B, 1, D, H, W) in case order; several at once are faster than one."""
        size = max(1, BATCH_VOXELS // prod(self.preprocess.grid))
        for start in range(0, len(self.examples), size):
            batch = self.examples[start : start + size]
            voxels = [read_voxels(example, self.arrays, self.preprocess) for example in batch]
            yield self.fabric.to_device(torch.from_numpy(np.stack(voxels))[:, None])


def deepest_features(encoder: nn.Module, volumes: Volumes) -> Tensor:
    """Encode every volume once, without augmentation: (N, C, D, H, W) float16 on the CPU."""
    encoder = volumes.fabric.to_device(encoder).eval()
    with torch.no_grad(), volumes.fabric.autocast():
        features = [encoder(x)[-1].to("cpu", torch.float16) for x in volumes]
    return torch.cat(features)


@dataclass(frozen=True, eq=False)
class FeatureBatches:
    """Batches of cached features for the warm-up of the classifier."""

    features: Tensor
    case_ids: Sequence[str]
    config: TrainClsConfig
    sampler: CaseSampler
    seed: int

    def __call__(self, index: int) -> ClsBatch:
        """Draw batch number `index`."""
        rng = generator(self.seed, "cls_head", index)
        chosen = self.sampler.draw(self.config.head_warmup_batch_size, rng)
        truth = self.sampler.abnormalities[chosen].astype(np.float32)
        x = self.features[chosen].float()
        return ClsBatch([self.case_ids[i] for i in chosen], x, torch.from_numpy(truth))


@dataclass(frozen=True, eq=False)
class ClsValidation:
    """F1, AUROC and thresholds over validation cases.

    `inputs` gives what the model takes for each case, batched by one or more, in case order.
    """

    inputs: Volumes | Sequence[Tensor]
    examples: Sequence[Example]
    names: Sequence[str]

    def __call__(self, model: nn.Module) -> Scores:
        """Validate `model`."""
        logits = torch.cat([model(x).float().cpu() for x in self.inputs])
        probabilities = torch.sigmoid(logits).double().numpy()
        return classifier_scores(probabilities, abnormality_table(self.examples), self.names)
