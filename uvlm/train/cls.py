"""Stage 2: the encoder learns what abnormalities look like, with a query classifier on top.

First the classifier alone warms up on cached features f_N of stage 1's encoder; then both train
together on whole volumes, the encoder at a fraction of the learning rate. For stage 3's cues,
further classifiers then say what they believe of training cases that they have not met.

B batch, N cases, C channels of f_N, (D, H, W) = (z, y, x), A abnormalities, V values of their
attributes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from uvlm.arrays import Floats
from uvlm.config import Params, TrainClsConfig
from uvlm.data.contract import contract
from uvlm.data.examples import Example, choose_cases, of_other_patients, read_examples
from uvlm.data.leaks.fitted_on import FITTED_ON, Fits, fits_text
from uvlm.errors import ConfigError, DataError
from uvlm.evaluation.calibration import TEMPERATURE
from uvlm.model.build import build_classifier
from uvlm.model.classifier import Classifier
from uvlm.model.fast_norm import ready_to_train
from uvlm.model.folder import check_contract, save_model
from uvlm.model.load import load_encoder
from uvlm.model.model_config import EVIDENCE, ClsModelConfig
from uvlm.model.trained import Part, in_order
from uvlm.model.weights import weights_of
from uvlm.processes import place
from uvlm.seeding import seed_everything
from uvlm.text.abnormalities import abnormality_names
from uvlm.text.attributes import VALUE_NAMES, AttributeReader
from uvlm.tracking import Training
from uvlm.train.batches import Arrays
from uvlm.train.heads.attributes import attribute_table
from uvlm.train.heads.features import ClsValidation, FeatureInputs, Volumes, mirrored_averages
from uvlm.train.heads.warm_up import HeadTraining, warm_up_config
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


class Learned(NamedTuple):
    """Numbers of the saved weights, and evidence (A, 1 + V) of training cases for cues."""

    metrics: dict[str, float]
    evidence: Mapping[str, Tensor] = MappingProxyType({})


class ClassifierNet(nn.Module):
    """Encoder and classifier: volumes (B, 1, D, H, W) -> logits (B, A)."""

    def __init__(self, encoder: nn.Module, classifier: Classifier) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """Classify by the deepest stage."""
        logits: Tensor = self.classifier(self.encoder(x)[-1])
        return logits


def train_cls(
    params: Params,
    *,
    index: Path,
    preprocess: Path,
    init: Path,
    out: Path,
    training: Training,
    read: AttributeReader | None = None,
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
        read: reads side, lobe and size out of reports, for `classifier.attributes`.

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
    ready_to_train(start.encoder)
    net = ClassifierNet(start.encoder, _classifier(params))
    if params.train_cls.gradient_checkpointing:
        recompute_blocks(start.encoder)
    if params.train_cls.steps == 0:
        _save(params, training.params, net, Learned({}), {}, before, out)
        return {}
    with ResumeFolder("train_cls", training.fingerprint) as state:
        data = [read_examples(index, preprocess, params.preprocess, s) for s in ("train", "val")]
        if params.train_cls.shuffle_labels:
            data = [_with_labels_of_others(examples, params.seed) for examples in data]
        learned = _fit(params, net, data, state, training, read)
        used = [[example.case_id for example in examples] for examples in data]
        fits: Fits = {
            "classification": {"train": used[0]},
            "thresholds": {"val": used[1]},
            **({"evidence": {"train": [*learned.evidence]}} if learned.evidence else {}),
        }
        trained = before | _learned(params.train_cls, learned.metrics)
        _save(params, training.params, net, learned, fits, trained, out)
    return learned.metrics


def _classifier(params: Params) -> Classifier:
    num_values = len(VALUE_NAMES) if params.classifier.attributes else 0
    sizes = len(abnormality_names(params)), num_values
    return build_classifier(params.encoder, params.classifier, params.preprocess.grid, *sizes)


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
    read: AttributeReader | None,
) -> Learned:
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
    joint, initial = (objective, batches, validate), None
    # Once joint training has left a state, the warmed-up classifier is in it.
    if config.head_warmup_steps and not state.exists():
        heads = _heads(config, net, volumes, joint, training)
        best = heads.fit(net.classifier, "cls_head", "head_", training.fingerprint)
        initial = Best(0, best.score, best.metrics, whole_weights(net))
    task = Task(objective, batches.read, validate, params.seed, batches.finish)
    watch = Watch(training.tracker, training.progress, state)
    optimizer = build_optimizer(
        net,
        config.optim,
        config.encoder_lr_scale,
        frozen_stages=config.frozen_stages,
    )
    metrics = fit(fabric, net, optimizer, task, config, watch, initial).put_into(net)
    if not config.evidence_folds and not params.classifier.attributes:
        return Learned(metrics)
    heads = _heads(config, net, volumes, joint, training)
    if params.classifier.attributes:
        said = [_attributes(params, examples, read) for examples in (train, val)]
        assert net.classifier.attributes is not None
        mirrored = mirrored_averages(net.encoder, volumes[0], net.classifier.attributes)
        heads = replace(heads, said=torch.from_numpy(said[0]), mirrored=mirrored)
        heads.fit_attributes(net.classifier)
        metrics |= heads.attribute_shares(net.classifier, said[1])
    if not config.evidence_folds:
        return Learned(metrics)
    return Learned(metrics, heads.unmet_evidence(partial(_classifier, params)))


def _attributes(
    params: Params, examples: Sequence[Example], read: AttributeReader | None
) -> Floats:
    """Label sides, lobes and sizes (N, A, V)."""
    if read is None:
        raise ConfigError("classifier.attributes", "nothing reads them out of reports")
    return attribute_table([e.case for e in examples], read, abnormality_names(params))


def _heads(
    config: TrainClsConfig,
    net: ClassifierNet,
    volumes: Sequence[Volumes],
    joint: tuple[ClsObjective, ClsBatches, ClsValidation],
    training: Training,
) -> HeadTraining:
    """Encode all cases, for classifiers to be trained on as they are."""
    fabric, (objective, batches, validate) = volumes[0].fabric, joint
    features, val_features = (FeatureInputs.of(net.encoder, v) for v in volumes)
    return HeadTraining(
        fabric,
        warm_up_config(config),
        objective,
        replace(batches, inputs=features),
        replace(validate, inputs=[fabric.to_device(val_features.features.float())]),
        training,
    )


def _objective(
    config: TrainClsConfig, train: Sequence[Example], device: torch.device
) -> ClsObjective:
    """Weigh positives by their rarity among the training cases, if the parameters say so."""
    if config.pos_weight == "none":
        return ClsObjective()
    flags = torch.from_numpy(abnormality_table(train))
    weights = positive_weights(flags, config.pos_weight_cap)
    return ClsObjective(pos_weight=weights.to(device))  # once: copying makes the host wait


def _save(
    params: Params,
    record: Mapping[str, Any],
    net: ClassifierNet,
    learned: Learned,
    fits: Fits,
    trained: Collection[Part],
    out: Path,
) -> None:
    """Write the model folder with tuned thresholds and temperature, and what all was fitted on."""
    names, metrics = abnormality_names(params), learned.metrics
    thresholds = {n: metrics.get(f"threshold.{n}", 0.5) for n in names}
    thresholds[TEMPERATURE] = metrics.get(TEMPERATURE, 1.0)
    config = ClsModelConfig(
        encoder=params.encoder,
        grid=params.preprocess.grid,
        params=dict(record),
        trained=in_order(trained),
        classifier=params.classifier,
        abnormalities=names,
        attributes=VALUE_NAMES if params.classifier.attributes else (),
    )
    modules = {"encoder": weights_of(net.encoder), "classifier": weights_of(net.classifier)}
    if learned.evidence:
        modules[EVIDENCE] = dict(learned.evidence)
    texts = {THRESHOLDS: json.dumps(thresholds, indent=2) + "\n", FITTED_ON: fits_text(fits)}
    files = {name: text.encode("utf-8") for name, text in texts.items()}
    if place().is_first:
        save_model(out, modules, config, contract(params.preprocess), files)
