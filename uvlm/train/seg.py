"""Stage 1: the U-Net learns from label maps where things are.

B batch, C classes, (D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
from uvlm.model.fast_norm import ready_to_train
from uvlm.model.folder import save_model
from uvlm.model.model_config import SegModelConfig
from uvlm.model.trained import Part, in_order
from uvlm.model.weights import weights_of
from uvlm.processes import place
from uvlm.read_ahead import read_ahead
from uvlm.seeding import seed_everything
from uvlm.tracking import Training
from uvlm.train.augmentation.pending import Pending
from uvlm.train.batches import Arrays
from uvlm.train.initial_weights import start_from
from uvlm.train.loop.fit import Scores, Task, Watch, fit
from uvlm.train.loop.launch import launch
from uvlm.train.loop.memory import recompute_blocks
from uvlm.train.loop.optim import build_optimizer
from uvlm.train.loop.resume import ResumeFolder
from uvlm.train.losses.losses import class_weights
from uvlm.train.losses.objectives import SegObjective
from uvlm.train.scores import dice_scores
from uvlm.train.volume_batches import SegBatches, case_sampler

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
        training: its fingerprint and observers.

    Returns:
        The validation numbers of the saved weights: `val_dice`, `val_lesion_dice`, `best_step`.
    """
    labels = scheme(params.label_maps.dataset, params.label_maps.scheme)
    seed_everything(params.seed)
    unet = build_unet(params.encoder, len(labels.names), len(params.train_seg.deep_supervision) > 1)
    start = start_from(unet, params, labels.names)
    if start.record:
        training.tracker.params(start.record)
    ready_to_train(unet)
    if params.train_seg.gradient_checkpointing:
        recompute_blocks(unet.encoder)
    if params.train_seg.steps == 0:
        _save(params, training.params, unet, labels, start.trained, out)
        return {}
    with ResumeFolder("train_seg", training.fingerprint) as state:
        read = partial(read_examples, index, preprocess, params.preprocess, label_maps=label_maps)
        watch = Watch(training.tracker, training.progress, state)
        metrics = _fit(params, unet, labels, read(split="train"), read(split="val"), watch)
        _save(params, training.params, unet, labels, ("encoder", "segmentation"), out)
    return metrics


def _fit(
    params: Params,
    unet: nn.Module,
    labels: LabelScheme,
    train: Sequence[Example],
    val: Sequence[Example],
    watch: Watch,
) -> dict[str, float]:
    """Leave the best weights in `unet`; return their numbers."""
    config = params.train_seg
    fabric = launch()
    val = choose_cases(val, config.val_cases, params.seed)
    arrays = Arrays.sized(sum(3 * prod(example.shape) for example in [*train, *val]))
    voxels = voxels_per_class(train, len(labels.names))
    weights = class_weights(voxels, config.ce_weight_power, config.ce_weight_cap)
    sampler, rarity = case_sampler(train, config.balanced_fraction), weights.double().numpy()
    lesion_ids = frozenset(labels.lesion_ids)
    batches = SegBatches(
        train, arrays, params.preprocess, config, sampler, rarity, lesion_ids, params.seed,
        on_device=fabric.device.type == "cuda",
    )  # fmt: skip
    validate = _Validation(val, arrays, params.preprocess, config.patch, labels, fabric)
    watch.tracker.params({"train_cases": len(train), "val_cases": len(val)})
    on_device = weights.to(fabric.device)  # once: copying makes the host wait
    objective = SegObjective(on_device, config.deep_supervision, config.dice_classes)
    task = Task(objective, batches.read, validate, params.seed, batches.finish)
    optimizer = build_optimizer(unet, config.optim)
    best = fit(fabric, unet, optimizer, task, config, watch)
    return best.put_into(unet)


def _save(
    params: Params,
    record: Mapping[str, Any],
    unet: nn.Module,
    labels: LabelScheme,
    trained: Collection[Part],
    out: Path,
) -> None:
    names = labels.names
    config = SegModelConfig(
        encoder=params.encoder,
        grid=params.preprocess.grid,
        params=dict(record),
        trained=in_order(trained),
        class_names=names,
    )
    modules = {"unet": weights_of(unet), "encoder": weights_of(unet.get_submodule("encoder"))}
    prepared = contract(params.preprocess) | {"label_names": names}
    if place().is_first:
        save_model(out, modules, config, prepared)


def voxels_per_class(examples: Sequence[Example], num_classes: int) -> Tensor:
    """Count the known voxels of all cases together, (C,); background is the rest of the volume."""
    counts = torch.zeros(num_classes, dtype=torch.float64)
    for example in examples:
        for class_id, voxels in example.voxels_by_class.items():
            if class_id != IGNORE_ID:
                counts[class_id] += voxels
        # Voxels that the manifest counts in no class are background too.
        counts[0] += prod(example.shape) - sum(example.voxels_by_class.values())
    return counts


@dataclass(frozen=True, eq=False)
class _Validation:
    """Mean Dice of anatomy and of lesions over the validation cases; the score is their mean."""

    examples: Sequence[Example]
    arrays: Arrays
    preprocess: PreprocessConfig
    patch: Grid
    labels: LabelScheme
    fabric: Fabric

    def __call__(self, unet: nn.Module) -> Scores:
        ahead = read_ahead(self._read, self.examples, self.fabric.device)
        dice = [self._dice(unet, *read) for read in zip(self.examples, ahead, strict=True)]
        return dice_scores(np.array(dice), self.labels)  # (N, C)

    def _read(self, example: Example) -> Pending:
        assert example.label_map is not None
        voxels, truth = map(self.arrays.whole, (example.volume, example.label_map))
        tensors = torch.from_numpy(voxels), torch.from_numpy(truth)
        return Pending(tensors[0], example.statistics, tensors[1])

    def _dice(self, unet: nn.Module, example: Example, read: Pending) -> Floats:
        assert read.labels is not None
        truth = read.labels.numpy()
        x = self.fabric.to_device(read._replace(labels=None)).normalised(self.preprocess)
        x = x[None, None]

        def full_resolution(window: Tensor) -> Tensor:
            outputs = unet(window)  # several with deep supervision, the finest first
            logits: Tensor = outputs[0] if isinstance(outputs, list | tuple) else outputs
            return logits

        predicted = predict_labels(full_resolution, x, self.patch)[0].cpu().numpy()
        counts = overlap_counts(example.case_id, truth, predicted, len(self.labels.names))
        return dice_of_present(counts)
