"""Stage 2: the encoder learns what abnormalities look like, with a query classifier on top.

First the classifier alone warms up on cached features f_N of stage 1's encoder; then both train
together on whole volumes, the encoder at a fraction of the learning rate.

B batch, N cases, C channels of f_N, (D, H, W) = (z, y, x), A abnormalities.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from uvlm.config import Params, TrainClsConfig
from uvlm.data.contract import contract
from uvlm.data.examples import Example, choose_cases, of_other_patients, read_examples
from uvlm.data.leaks.fitted_on import FITTED_ON, Fits, fits_text
from uvlm.errors import DataError
from uvlm.evaluation.calibration import TEMPERATURE
from uvlm.model.build import build_classifier
from uvlm.model.fast_norm import ready_to_train
from uvlm.model.folder import check_contract, save_model
from uvlm.model.load import load_encoder
from uvlm.model.model_config import ClsModelConfig
from uvlm.model.trained import Part, in_order
from uvlm.model.weights import weights_of
from uvlm.processes import place
from uvlm.seeding import seed_everything
from uvlm.text.abnormalities import abnormality_names
from uvlm.tracking import Training
from uvlm.train.batches import Arrays
from uvlm.train.cls_features import ClsValidation, FeatureInputs, Volumes
from uvlm.train.loop.fit import Task, Watch, fit
from uvlm.train.loop.launch import launch
from uvlm.train.loop.memory import recompute_blocks
from uvlm.train.loop.optim import build_optimizer
from uvlm.train.loop.resume import Best, ResumeFolder
from uvlm.train.loop.sharding import whole_weights
from uvlm.train.losses.losses import positive_weights
from uvlm.train.losses.objectives import ClsObjective
from uvlm.train.volume_batches import ClsBatches, VolumeInputs, abnormality_table, case_sampler

THRESHOLDS = "thresholds.json"


class ClassifierNet(nn.Module):
    """Encoder and classifier: volumes (B, 1, D, H, W) -> logits (B, A)."""

    def __init__(self, encoder: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """Classify by the deepest stage."""
        logits: Tensor = self.classifier(self.encoder(x)[-1])
        return logits


def train_cls(
    params: Params, *, index: Path, preprocess: Path, init: Path, out: Path, training: Training
) -> dict[str, float]:
    """Train encoder and classifier and write the model folder `out`.

    `steps: 0` passes the encoder through and writes a seeded classifier.

    Args:
        params: reads `seed` and the sections preprocess, label_maps (for the abnormalities'
            names), encoder, classifier and train_cls.
        index: manifest of the stage `index`.
        preprocess: manifest of the stage `preprocess`.
        init: model folder whose encoder training starts from, data/models/seg.
        out: model folder, data/models/cls.
        training: its fingerprint and observers; names of the warm-up's numbers begin with `head_`.

    Returns:
        Validation numbers of the saved weights: `val_macro_f1` (at 0.5), `val_macro_f1_tuned`,
        `val_macro_auroc`, `best_step`, `temperature` and `threshold.<abnormality>`.
    """
    check_contract(init, contract(params.preprocess))
    start = load_encoder(init)
    if start.config.encoder != params.encoder:
        raise DataError(init, "its encoder differs from params.yaml", "run `dvc repro train_seg`")
    before = start.trained
    seed_everything(params.seed)
    names, grid = abnormality_names(params), params.preprocess.grid
    classifier = build_classifier(params.encoder, params.classifier, grid, len(names))
    ready_to_train(start.encoder)
    net = ClassifierNet(start.encoder, classifier)
    if params.train_cls.gradient_checkpointing:
        recompute_blocks(start.encoder)
    if params.train_cls.steps == 0:
        _save(params, training.params, net, {}, {}, before, out)
        return {}
    with ResumeFolder("train_cls", training.fingerprint) as state:
        data = [read_examples(index, preprocess, params.preprocess, s) for s in ("train", "val")]
        if params.train_cls.shuffle_labels:
            data = [_with_labels_of_others(examples, params.seed) for examples in data]
        metrics = _fit(params, net, data, state, training)
        used = [[example.case_id for example in examples] for examples in data]
        fits: Fits = {"classification": {"train": used[0]}, "thresholds": {"val": used[1]}}
        trained = before | _learned(params.train_cls, metrics)
        _save(params, training.params, net, metrics, fits, trained, out)
    return metrics


def _with_labels_of_others(examples: Sequence[Example], seed: int) -> list[Example]:
    others = of_other_patients([example.case for example in examples], seed)
    return [
        replace(e, case=replace(e.case, abnormalities=other.abnormalities))
        for e, other in zip(examples, others, strict=True)
    ]


def _learned(config: TrainClsConfig, metrics: Mapping[str, float]) -> set[Part]:
    """Name what training moved; step 0 is the warmed-up classifier on an encoder as it came."""
    if config.encoder_lr_scale > 0 and metrics["best_step"] > 0:
        return {"encoder", "classifier"}
    return {"classifier"}


def _fit(
    params: Params,
    net: ClassifierNet,
    data: Sequence[list[Example]],
    state: ResumeFolder,
    training: Training,
) -> dict[str, float]:
    """Leave the best weights in `net`; `data` holds the training and the validation cases."""
    config = params.train_cls
    fabric = launch()
    train, val = data[0], choose_cases(data[1], config.val_cases, params.seed)
    arrays = Arrays.sized(sum(2 * prod(example.shape) for example in [*train, *val]))
    inputs = [
        VolumeInputs(e, arrays, params.preprocess, config.augment, fabric.device.type == "cuda")
        for e in (train, val)
    ]
    volumes = [Volumes(each, fabric) for each in inputs]
    names = abnormality_names(params)
    training.tracker.params({"train_cases": len(train), "val_cases": len(val)})
    objective = _objective(config, train, fabric.device)
    if objective.pos_weight is not None:
        weights = dict(zip(names, objective.pos_weight.tolist(), strict=True))
        training.tracker.params({"pos_weight": weights})
    sampler = case_sampler(train, config.balanced_fraction)
    batches = ClsBatches("cls", train, inputs[0], sampler, config.batch_size, params.seed)
    validate = ClsValidation(volumes[1], val, names)
    initial = None
    # Once joint training has left a state, the warmed-up classifier is in it.
    if config.head_warmup_steps and not state.exists():
        joint = (objective, batches, validate)
        initial = _warm_up(_warm_up_config(config), net, volumes, joint, training)
    task = Task(objective, batches.read, validate, params.seed, batches.finish)
    watch = Watch(training.tracker, training.progress, state)
    optimizer = build_optimizer(
        net,
        config.optim,
        config.encoder_lr_scale,
        frozen_stages=config.frozen_stages,
        fused=fabric.device.type == "cuda",
    )
    return fit(fabric, net, optimizer, task, config, watch, initial).put_into(net)


def _objective(
    config: TrainClsConfig, train: Sequence[Example], device: torch.device
) -> ClsObjective:
    """Weigh positives by their rarity among the training cases, if the parameters say so."""
    if config.pos_weight == "none":
        return ClsObjective()
    flags = torch.from_numpy(abnormality_table(train))
    weights = positive_weights(flags, config.pos_weight_cap)
    return ClsObjective(pos_weight=weights.to(device))  # once: copying makes the host wait


def _warm_up(
    config: TrainClsConfig,
    net: ClassifierNet,
    volumes: Sequence[Volumes],
    joint: tuple[ClsObjective, ClsBatches, ClsValidation],
    training: Training,
) -> Best:
    """Train the classifier alone on cached features; return what joint training has to beat."""
    fabric, (objective, batches, validate) = volumes[0].fabric, joint
    with ResumeFolder("train_cls_head", training.fingerprint) as state:
        features, val_features = (FeatureInputs.of(net.encoder, v) for v in volumes)
        task = Task(
            replace(objective, name="cls_head"),
            replace(batches, name="cls_head", inputs=features, batch_size=config.batch_size),
            replace(validate, inputs=[fabric.to_device(val_features.features.float())]),
            batches.seed,
        )
        fused = fabric.device.type == "cuda"
        optimizer = build_optimizer(net.classifier, config.optim, fused=fused)
        watch = Watch(training.tracker, training.progress, state, prefix="head_")
        best = fit(fabric, net.classifier, optimizer, task, config, watch)
    best.put_into(net.classifier)
    return Best(0, best.score, best.metrics, whole_weights(net))


def _warm_up_config(config: TrainClsConfig) -> TrainClsConfig:
    """Replace the numbers of joint training by those of the warm-up."""
    steps, size = config.head_warmup_steps, config.head_warmup_batch_size
    warmup_steps = min(config.optim.warmup_steps, steps // 10)
    adamw = {"optimizer": "adamw", "lr": config.head_warmup_lr, "warmup_steps": warmup_steps}
    optim = config.optim.model_copy(update=adamw)
    often = {"steps": steps, "val_every": max(1, steps // 3)}
    return config.model_copy(update=often | {"batch_size": size, "optim": optim})


def _save(
    params: Params,
    record: Mapping[str, Any],
    net: ClassifierNet,
    metrics: Mapping[str, float],
    fits: Fits,
    trained: Collection[Part],
    out: Path,
) -> None:
    """Write the model folder with tuned thresholds and temperature, and what all was fitted on."""
    names = abnormality_names(params)
    thresholds = {name: metrics.get(f"threshold.{name}", 0.5) for name in names}
    thresholds[TEMPERATURE] = metrics.get(TEMPERATURE, 1.0)
    config = ClsModelConfig(
        encoder=params.encoder,
        grid=params.preprocess.grid,
        params=dict(record),
        trained=in_order(trained),
        classifier=params.classifier,
        abnormalities=names,
    )
    modules = {"encoder": weights_of(net.encoder), "classifier": weights_of(net.classifier)}
    texts = {THRESHOLDS: json.dumps(thresholds, indent=2) + "\n", FITTED_ON: fits_text(fits)}
    files = {name: text.encode("utf-8") for name, text in texts.items()}
    if place().is_first:
        save_model(out, modules, config, contract(params.preprocess), files)
