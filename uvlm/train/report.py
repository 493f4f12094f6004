"""Stage 3: the language decoder learns to write reports from the encoder's tokens.

The frozen encoder's tokens come from the stage `encode`; with `encoder_lr_scale` above 0 the
encoder reads volumes in every step instead and trains too.

B batch, K visual tokens, C_i channels of encoder stage i, T text tokens, A abnormalities.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from torch import Tensor

from uvlm.config import Params, TrainReportConfig
from uvlm.data.contract import contract
from uvlm.inference import population
from uvlm.inference.segment import Segmenter
from uvlm.model.align import num_visual_tokens
from uvlm.model.build import build_uvlm
from uvlm.model.cues import CueSizes
from uvlm.model.fast_norm import ready_to_train
from uvlm.model.folder import check_contract, save_model
from uvlm.model.load import (
    ClassifierModel,
    SegmenterModel,
    load_classifier,
    load_encoder,
    load_segmenter,
)
from uvlm.model.model_config import ReportModelConfig
from uvlm.model.pretrained import QwenOrigin, find_qwen
from uvlm.model.projection import Projection
from uvlm.model.trained import Part, in_order
from uvlm.model.uvlm import UVLM, SpecialIds
from uvlm.model.weights import weights_of
from uvlm.processes import place
from uvlm.seeding import seed_everything
from uvlm.text.tokenizer import FILE_NAME, Tokenizer
from uvlm.tracking import Training
from uvlm.train.cls import THRESHOLDS
from uvlm.train.loop.fit import Task, Watch, fit
from uvlm.train.loop.launch import launch
from uvlm.train.loop.memory import recompute_blocks, recompute_layers
from uvlm.train.loop.optim import build_optimizer
from uvlm.train.loop.resume import ResumeFolder
from uvlm.train.loop.sharding import shard, whole_weights
from uvlm.train.losses.objectives import ReportObjective
from uvlm.train.report_data import (
    NO_READERS,
    Readers,
    ReportData,
    ReportPaths,
    TunedClassifier,
    read_report_data,
    visual_rank,
)
from uvlm.train.report_net import Label, ReportNet, ReportValidation


def train_report(
    params: Params,
    *,
    paths: ReportPaths,
    out: Path,
    label: Label,
    training: Training,
    readers: Readers = NO_READERS,
) -> dict[str, float]:
    """Train the language decoder and write the model folder `out`, which stands alone.

    Args:
        params: reads `seed` and the sections preprocess, tokenizer, encoder, classifier, decoder,
            injection, encode and train_report.
        paths: what to read.
        out: model folder, data/models/report.
        label: reads flags out of texts, (N, A); the macro-F1 of the validation reports written
            picks the best step.
        training: its fingerprint and observers.
        readers: of training reports, for `deciding_weight` and `cue_truth`.

    Returns:
        Validation numbers of the saved weights: `val_macro_f1`, `val_loss`, `best_step`; and
        `visual_rank`, the effective rank of cached validation tokens.
    """
    for folder in (paths.seg, paths.cls):
        check_contract(folder, contract(params.preprocess))
    parts = _Parts.load(params, paths)
    if params.train_report.steps == 0:
        parts.save(params, training.params, out, _population(params, paths, training))
        return {}
    fingerprint = training.fingerprint
    if parts.qwen is not None:  # its folder is not an input of the pipeline
        fingerprint = f"{fingerprint}-{parts.qwen.pretrained.sha256[:16]}"
    with ResumeFolder("train_report", fingerprint) as state:
        watch = Watch(training.tracker, training.progress, state)
        metrics = _fit(params, paths, parts, label, watch, readers)
        parts.save(params, training.params, out, _population(params, paths, training))
    return metrics


@dataclass(frozen=True, eq=False)
class _Parts:
    """The trained parts of stages 1 and 2, the new decoder and the tokenizer.

    An encoder that trains on is a copy: the classifier and its thresholds fit the one of stage 2.
    """

    segmenter: SegmenterModel
    classifier: ClassifierModel
    encoder: ResidualEncoder
    uvlm: UVLM
    tokenizer: Tokenizer
    files: dict[str, bytes]
    qwen: QwenOrigin | None

    @classmethod
    def load(cls, params: Params, paths: ReportPaths) -> Self:
        """Read the folders and build a seeded decoder."""
        tokenizer = Tokenizer.load(paths.tokenizer)
        qwen = find_qwen() if params.decoder.kind != "scratch" else None
        plan, grid, size = params.injection, params.preprocess.grid, tokenizer.vocabulary_size
        segmenter, classifier = load_segmenter(paths.seg), load_classifier(paths.cls)
        words = size, _special_ids(tokenizer), qwen
        known = classifier.config
        cues = CueSizes.of(known.abnormalities, known.attributes, known.classifier.num_queries)
        seed_everything(params.seed)
        uvlm = build_uvlm(params.encoder, params.decoder, plan, grid, *words, cues)
        files = {FILE_NAME: (paths.tokenizer / FILE_NAME).read_bytes()}
        if (paths.cls / THRESHOLDS).is_file():
            files[THRESHOLDS] = (paths.cls / THRESHOLDS).read_bytes()
        encoder = classifier.encoder
        if params.train_report.encoder_lr_scale > 0:
            encoder = load_encoder(paths.cls).encoder
        return cls(segmenter, classifier, encoder, uvlm, tokenizer, files, qwen)

    def _trained(self, config: TrainReportConfig) -> set[Part]:
        """Name the parts that have learned, here or before."""
        parts = self.classifier.trained | self.segmenter.trained - {"encoder"}
        if config.steps > 0:
            parts.add("language")
            if config.encoder_lr_scale > 0:
                parts.add("encoder")
        return parts

    def save(
        self, params: Params, record: Mapping[str, Any], out: Path, files: Mapping[str, bytes]
    ) -> None:
        """Write the model folder, `files` among it."""
        config = ReportModelConfig(
            encoder=params.encoder,
            grid=params.preprocess.grid,
            params=dict(record),
            trained=in_order(self._trained(params.train_report)),
            class_names=self.segmenter.config.class_names,
            classifier=self.classifier.config.classifier,
            abnormalities=self.classifier.config.abnormalities,
            attributes=self.classifier.config.attributes,
            decoder=params.decoder,
            injection=params.injection,
            vocabulary_size=self.tokenizer.vocabulary_size,
            specials=_special_ids(self.tokenizer),
            pretrained=self.qwen.pretrained if self.qwen else None,
        )
        modules = {
            "unet": weights_of(self.segmenter.unet),
            "classifier": weights_of(self.classifier.classifier),
            # If sharded, all processes have to call these.
            "encoder": whole_weights(self.encoder),
            "decoder": whole_weights(self.uvlm),
        }
        if self.encoder is not self.classifier.encoder:
            modules["classifier_encoder"] = weights_of(self.classifier.encoder)
        names = {"label_names": list(self.segmenter.config.class_names)}
        if place().is_first:
            files = {**self.files, **files}
            save_model(out, modules, config, contract(params.preprocess) | names, files)


def _population(params: Params, paths: ReportPaths, training: Training) -> dict[str, bytes]:
    """Measure what the CTs have in common, if their volumes are known; in the first process."""
    if paths.preprocess is None or not place().is_first:
        return {}
    # Loaded again, as a network that is ready for inference has other layers.
    loaded = load_segmenter(paths.seg)
    segmenter = None
    if "segmentation" in loaded.trained:
        segmenter = Segmenter.of(loaded.unet, params.train_seg.patch)
    known = population.population_of(
        segmenter,
        loaded.config.class_names,
        paths.index,
        paths.preprocess,
        params.preprocess,
        params.seed,
        training.progress,
    )
    return {} if known is None else {population.FILE_NAME: known.to_json().encode("utf-8")}


def _fit(
    params: Params,
    paths: ReportPaths,
    parts: _Parts,
    label: Label,
    watch: Watch,
    readers: Readers,
) -> dict[str, float]:
    """Leave the best weights in `parts`."""
    config, trains_encoder = params.train_report, params.train_report.encoder_lr_scale > 0
    fabric = launch(None if trains_encoder else params.decoder.width, may_shard=True)
    sha256 = parts.classifier.config.weights["encoder"]
    data = read_report_data(
        params,
        paths,
        parts.tokenizer,
        sha256,
        on_device=fabric.device.type == "cuda",
        tuned=TunedClassifier(parts.classifier.classifier, _thresholds(parts)),
        readers=readers,
    )
    _scale_inputs(params, parts, data)
    encoder = parts.encoder if trains_encoder else None
    if encoder is not None:
        ready_to_train(encoder)
        if config.gradient_checkpointing:
            recompute_blocks(encoder)
    if config.gradient_checkpointing:
        recompute_layers(parts.uvlm.decoder)
    net = ReportNet(parts.uvlm, params.injection, encoder)
    grid, limit = params.preprocess.grid, params.decoder.max_report_tokens
    stage, strides = params.injection.reference_stage, params.encoder.strides
    cut = sum(ids[-1] != parts.tokenizer.eos_id for ids in data.train.reports)
    watch.tracker.params(
        {
            "train_cases": len(data.train.cases),
            "val_cases": len(data.val.cases),
            "reports_cut_at_max_tokens": cut,
            "num_visual_tokens": num_visual_tokens(grid, strides, stage),
            "injection_plan": {f"layer {j}": f"stage {i}" for j, i in parts.uvlm.plan.items()},
        }
    )
    validate = ReportValidation(data.val, parts.tokenizer, limit, label, fabric)
    train = data.train
    task = Task(ReportObjective(), train.read, validate, params.seed, train.finish)
    shard(fabric, net)
    optimizer = build_optimizer(
        net, config.optim, config.encoder_lr_scale, config.adam_beta2, config.frozen_stages
    )
    metrics = fit(fabric, net, optimizer, task, config, watch).put_into(net)
    return metrics | _rank_of_tokens(params, data)


def _rank_of_tokens(params: Params, data: ReportData) -> dict[str, float]:
    """Measure how many directions visual tokens use, and warn if they are few."""
    rank = visual_rank(data, params.injection.reference_stage, params.seed)
    if rank is None:
        return {}
    channels = params.encoder.channels[params.injection.reference_stage - 1]
    if rank < params.train_report.least_visual_rank and place().is_first:
        few = f"visual tokens use {rank:.1f} of {channels} directions (effective rank)"
        sys.stderr.write(f"train_report: WARNING: {few}: every CT may look the same to the text\n")
    return {"visual_rank": rank}


def _scale_inputs(params: Params, parts: _Parts, data: ReportData) -> None:
    """Give the decoder's inputs the scales of training cases, and cues the tuned thresholds."""
    if parts.uvlm.cues is not None:
        parts.uvlm.cues.set_thresholds(_thresholds(parts))
    if parts.uvlm.pooled is not None:
        parts.uvlm.pooled.standardise(data.pooled())
    if params.train_report.standardise_features:
        _standardise(parts.uvlm, data, params.encoder.channels)


def _thresholds(parts: _Parts) -> Tensor:
    """Return the probabilities (A,) from which the classifier claims an abnormality."""
    stored = json.loads(parts.files.get(THRESHOLDS, b"{}"))
    names = parts.classifier.config.abnormalities
    return torch.tensor([float(stored.get(name, 0.5)) for name in names])


def _standardise(uvlm: UVLM, data: ReportData, channels: Sequence[int]) -> None:
    """Give every projection the mean and deviation of its stage's channels."""
    means = torch.from_numpy(data.mean).float().split(list(channels))
    stds = torch.from_numpy(data.std).float().split(list(channels))
    for stage, projection in uvlm.projections.items():
        assert isinstance(projection, Projection)
        projection.set_standardisation(means[int(stage) - 1], stds[int(stage) - 1])


def _special_ids(t: Tokenizer) -> SpecialIds:
    return SpecialIds(t.pad_id, t.start_of_image_id, t.end_of_image_id, t.bos_id, t.eos_id)
