"""Stage 1: the U-Net learns where things are, from label maps.

B batch, C classes, (D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from uvlm.arrays import Floats
from uvlm.config import Grid, Params, PreprocessConfig
from uvlm.data.contract import contract
from uvlm.data.examples import Example, choose_cases, read_examples
from uvlm.data.label_scheme import IGNORE_ID, LabelScheme, scheme
from uvlm.evaluation.segmentation import dice_of_present, overlap_counts
from uvlm.inference.sliding_window import predict_labels
from uvlm.model.build import build_unet
from uvlm.model.folder import save_model
from uvlm.model.model_config import SegModelConfig
from uvlm.model.weights import load_weights, weights_of
from uvlm.processes import place
from uvlm.seeding import seed_everything
from uvlm.tracking import Training
from uvlm.train.batches import Arrays
from uvlm.train.initial_weights import start_from
from uvlm.train.loop.fit import Scores, Task, Watch, fit
from uvlm.train.loop.launch import launch
from uvlm.train.loop.optim import build_optimizer
from uvlm.train.loop.recompute import recompute_blocks
from uvlm.train.loop.resume import ResumeFolder
from uvlm.train.losses.losses import class_weights
from uvlm.train.losses.objectives import SegObjective
from uvlm.train.scores import dice_scores
from uvlm.train.volume_batches import SegBatches, case_sampler, read_voxels

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def train_seg(
    params: Params,
    *,
    index: Path,
    preprocess: Path,
    label_maps: Path,
    out: Path,
    training: Training,
) -> dict[str, float]:
    """Train the U-Net and write the model folder `out`; `steps: 0` writes the start.

    Args:
        params: reads `seed` and the sections preprocess, label_maps, encoder and train_seg.
        index: manifest of the stage `index`.
        preprocess: manifest of the stage `preprocess`.
        label_maps: manifest of the stage `label_maps`.
        out: model folder, data/models/seg.
        training: its fingerprint, and who watches it.

    Returns:
        The validation numbers of the weights kept: `val_dice`, `val_lesion_dice`, `best_step`.
    """
    labels = scheme(params.label_maps.dataset, params.label_maps.scheme)
    seed_everything(params.seed)
    unet = build_unet(params.encoder, len(labels.names), len(params.train_seg.deep_supervision) > 1)
    start = start_from(unet, params, labels.names)
    if start:
        training.tracker.params(start)
    unet = unet.to(memory_format=torch.channels_last_3d)
    if params.train_seg.gradient_checkpointing:
        recompute_blocks(unet.encoder)
    metrics: dict[str, float] = {}
    if params.train_seg.steps:
        with ResumeFolder("train_seg", training.fingerprint) as state:
            data = [
                read_examples(index, preprocess, params.preprocess, split, label_maps)
                for split in ("train", "val")
            ]
            watch = Watch(training.tracker, training.progress, state)
            metrics = _fit(params, unet, labels, data, watch)
            _save(params, training.params, unet, labels, out)
    else:
        _save(params, training.params, unet, labels, out)
    return metrics


def _fit(
    params: Params,
    unet: nn.Module,
    labels: LabelScheme,
    data: Sequence[list[Example]],
    watch: Watch,
) -> dict[str, float]:
    """Leaves the best weights in `unet`; `data` holds the training and the validation cases."""
    config = params.train_seg
    fabric = launch()
    train, val = data[0], choose_cases(data[1], config.val_cases, params.seed)
    arrays = Arrays.sized(sum(3 * prod(example.shape) for example in [*train, *val]))
    voxels = voxels_per_class(train, len(labels.names))
    weights = class_weights(voxels, config.ce_weight_power, config.ce_weight_cap)
    batches = SegBatches(
        train,
        arrays,
        params.preprocess,
        config,
        case_sampler(train, config.balanced_fraction),
        rarity=weights.double().numpy(),
        lesion_ids=frozenset(labels.lesion_ids),
        seed=params.seed,
    )
    validate = _Validation(val, arrays, params.preprocess, config.patch, labels, fabric)
    watch.tracker.params({"train_cases": len(train), "val_cases": len(val)})
    task = Task(
        SegObjective(weights, config.deep_supervision, config.dice_classes),
        batches,
        validate,
        params.seed,
    )
    best = fit(fabric, unet, build_optimizer(unet, config.optim), task, config, watch)
    load_weights(unet, best.weights, "the best weights")
    return {**best.metrics, "best_step": float(best.step)}


def _save(
    params: Params, record: Mapping[str, Any], unet: nn.Module, labels: LabelScheme, out: Path
) -> None:
    if not place().is_first:
        return
    config = SegModelConfig(
        encoder=params.encoder,
        grid=params.preprocess.grid,
        params=dict(record),
        class_names=labels.names,
    )
    modules = {"unet": weights_of(unet), "encoder": weights_of(unet.get_submodule("encoder"))}
    save_model(out, modules, config, contract(params.preprocess) | {"label_names": labels.names})


def voxels_per_class(examples: Sequence[Example], num_classes: int) -> Tensor:
    """(C,) known voxels of all cases together; background is what no other class has."""
    counts = torch.zeros(num_classes, dtype=torch.float64)
    for example in examples:
        for class_id, voxels in example.voxels_by_class.items():
            if class_id != IGNORE_ID:
                counts[class_id] += voxels
        foreground = sum(v for c, v in example.voxels_by_class.items() if c != 0)
        counts[0] += prod(example.shape) - foreground - example.voxels_by_class.get(0, 0)
    return counts


@dataclass(frozen=True, eq=False)
class _FullResolution:
    """The first of a network's outputs, where deep supervision returns several."""

    unet: nn.Module

    def __call__(self, x: Tensor) -> Tensor:
        outputs = self.unet(x)
        logits: Tensor = outputs[0] if isinstance(outputs, list | tuple) else outputs
        return logits


@dataclass(frozen=True, eq=False)
class _Validation:
    """Mean Dice of anatomy and of lesions over validation cases; the score is their mean."""

    examples: Sequence[Example]
    arrays: Arrays
    preprocess: PreprocessConfig
    patch: Grid
    labels: LabelScheme
    fabric: Fabric

    def __call__(self, unet: nn.Module) -> Scores:
        dice = np.array([self._dice(unet, example) for example in self.examples])  # (N, C)
        return dice_scores(dice, self.labels)

    def _dice(self, unet: nn.Module, example: Example) -> Floats:
        assert example.label_map is not None
        voxels = read_voxels(example, self.arrays, self.preprocess)
        x = self.fabric.to_device(torch.from_numpy(voxels)[None, None])
        predicted = predict_labels(_FullResolution(unet), x, self.patch)[0].cpu().numpy()
        truth = self.arrays.whole(example.label_map)
        counts = overlap_counts(example.case.case_id, truth, predicted, len(self.labels.names))
        return dice_of_present(counts)
