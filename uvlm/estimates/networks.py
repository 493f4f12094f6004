"""Bytes of tensors that each stage with a network holds at its peak, from an imagined run.

B batch, C classes, K visual tokens, (D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import torch
from torch import Tensor, nn

from uvlm.config import Params, TrainConfig
from uvlm.data.label_scheme import scheme
from uvlm.device import choose_device, choose_precision
from uvlm.estimates.imagined import Held, imagined
from uvlm.inference.encode import BATCH_VOXELS, encode_volumes
from uvlm.inference.sliding_window import predict_labels
from uvlm.model.align import num_visual_tokens
from uvlm.model.build import build_classifier, build_encoder, build_unet, build_uvlm
from uvlm.model.classifier import Classifier
from uvlm.model.cues import CueSizes
from uvlm.model.describe import QWEN3_VOCABULARY_SIZE
from uvlm.model.fast_norm import use_group_norms
from uvlm.model.pooled import num_pooled
from uvlm.model.pretrained import Pretrained, QwenOrigin, read_architecture
from uvlm.model.uvlm import UVLM, SpecialIds
from uvlm.text.abnormalities import abnormality_names
from uvlm.text.attributes import VALUE_NAMES
from uvlm.train.cls import ClassifierNet
from uvlm.train.loop.memory import recompute_blocks, recompute_layers
from uvlm.train.loop.optim import build_optimizer
from uvlm.train.losses.token_loss import token_cross_entropy
from uvlm.train.report_net import WRITTEN_AT_ONCE, ReportNet

_CPU: Final = torch.device("cpu")
Sizes = dict[str, tuple[int, str]]  # bytes and a note, by what holds them


def autocast(device: torch.device, width: int | None = None) -> torch.autocast:
    """Compute on `device`, which may be imagined, as precisely as on the device of UVLM_DEVICE."""
    enabled = choose_precision(choose_device(), width) == "bf16-mixed"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


@dataclass(frozen=True, eq=False)
class Training:
    """A step of a training: the network, its optimiser, and the loss of a fresh batch."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    batch: Callable[[], Sequence[Tensor]]
    loss: Callable[[Sequence[Tensor]], Tensor]
    config: TrainConfig
    width: int | None = None  # of a network without convolutions
    validate: Callable[[], object] = lambda: None

    def step(self, device: torch.device = _CPU) -> None:
        """Take one step, as `fit` does; the model is on `device`."""
        batch = [tensor.to(device) for tensor in self.batch()]
        with autocast(device, self.width):
            loss = self.loss(batch)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def seg_training(params: Params) -> Training:
    """Build stage 1."""
    config, num_classes = params.train_seg, _num_classes(params)
    unet = build_unet(params.encoder, num_classes, len(config.deep_supervision) > 1)
    if config.gradient_checkpointing:
        recompute_blocks(unet.encoder)

    def loss(batch: Sequence[Tensor]) -> Tensor:
        outputs = unet(batch[0])
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        # The true loss looks at values. It holds the gradient of the logits; so does this one.
        return torch.stack([output.float().square().sum() for output in outputs]).sum()

    def batch() -> Sequence[Tensor]:
        return [torch.rand(config.batch_size, 1, *config.patch)]

    def validate() -> object:
        x = torch.rand(1, 1, *params.preprocess.grid)
        return predict_labels(lambda window: _finest(unet(window)), x, config.patch)

    optimizer = build_optimizer(unet, config.optim)
    return Training(unet, optimizer, batch, loss, config, validate=validate)


def cls_training(params: Params) -> Training:
    """Build stage 2."""
    config, grid = params.train_cls, params.preprocess.grid
    encoder = build_encoder(params.encoder)
    if config.gradient_checkpointing:
        recompute_blocks(encoder)
    net = ClassifierNet(encoder, _classifier(params))
    optimizer = build_optimizer(
        net, config.optim, config.encoder_lr_scale, frozen_stages=config.frozen_stages
    )

    def batch() -> Sequence[Tensor]:
        return [torch.rand(config.batch_size, 1, *grid)]

    def loss(batch: Sequence[Tensor]) -> Tensor:
        logits: Tensor = net(batch[0])
        return logits.float().square().sum()

    # Small volumes are validated several at once, and encoded so for the warm-up of the head.
    count = max(1, BATCH_VOXELS // prod(grid))
    return Training(
        net, optimizer, batch, loss, config, validate=lambda: net(torch.rand(count, 1, *grid))
    )


def report_training(params: Params) -> Training:
    """Build stage 3, every report as long as allowed."""
    config, trains_encoder = params.train_report, params.train_report.encoder_lr_scale > 0
    encoder = build_encoder(params.encoder) if trains_encoder else None
    language = _language(params)
    if config.gradient_checkpointing:
        recompute_layers(language.decoder)
        if encoder is not None:
            recompute_blocks(encoder)
    net = ReportNet(language, params.injection, encoder)
    optimizer = build_optimizer(
        net, config.optim, config.encoder_lr_scale, config.adam_beta2, config.frozen_stages
    )

    longest = params.decoder.max_report_tokens

    def batch() -> Sequence[Tensor]:
        ids = torch.ones(config.batch_size, longest + 1, dtype=torch.long)
        if trains_encoder:
            return [ids, torch.rand(config.batch_size, 1, *params.preprocess.grid)]
        return [ids, *_visual(params, config.batch_size)]

    def loss(batch: Sequence[Tensor]) -> Tensor:
        ids, *x = batch
        hidden = language.text_hidden(net.visual(x[0] if trains_encoder else x), ids).flatten(0, 1)
        return token_cross_entropy(hidden, language.decoder.output_weight, ids.flatten())

    def validate() -> None:
        if trains_encoder:
            net.visual(batch()[1])
        count = min(WRITTEN_AT_ONCE, config.val_cases)
        visual, ids = _visual(params, count), torch.ones(count, longest + 1, dtype=torch.long)
        language.text_hidden(visual, ids)
        _write(language, visual, longest)

    width = None if trains_encoder else params.decoder.width
    return Training(net, optimizer, batch, loss, config, width, validate)


def training_sizes(build: Callable[[Params], Training], params: Params) -> Sizes:
    """Imagine two steps, of which the second has the optimiser's state, and a validation."""
    with imagined() as held:
        training = build(params)
        weights = held.now
        for _ in range(2):
            training.step()
        training.model.eval()
        with torch.no_grad(), autocast(_CPU, training.width):
            training.validate()
        return _sizes(training, weights, held)


def _sizes(training: Training, weights: int, held: Held) -> Sizes:
    """Divide the peak as docs/training.md does."""
    trained = [p for p in training.model.parameters() if p.requires_grad]
    gradients = sum(p.untyped_storage().nbytes() for p in trained)
    adam = isinstance(training.optimizer, torch.optim.AdamW)
    moments, name = (2 if adam else 1) * gradients, type(training.optimizer).__name__
    batch = sum(tensor.untyped_storage().nbytes() for tensor in training.batch())
    numbers = sum(p.numel() for p in training.model.parameters())
    count = training.config.batch_size
    return {
        "weights": (weights, f"{numbers / 1e6:.1f} M numbers"),
        "gradients": (gradients, ""),
        "optimiser": (moments, name),
        "batch": (batch, f"{count} cases"),
        "activations": (held.peak - weights - gradients - moments - batch, f"{count} cases"),
        # The best weights so far, those of the validation before, and the copy that is written.
        "best and saved": (3 * weights + moments, "weights of the best step, and the state"),
    }


def encode_sizes(params: Params) -> Sizes:
    """Imagine the encoder reading as many volumes as it takes at once."""
    count = max(1, BATCH_VOXELS // prod(params.preprocess.grid))
    with imagined() as held:
        encoder = _ready(build_encoder(params.encoder))
        weights = held.now
        encode_volumes(encoder, torch.rand(count, 1, *params.preprocess.grid), params.injection)
        return _inference(weights, held, f"{count} volumes at once")


def generate_sizes(params: Params) -> Sizes:
    """Imagine what is larger: the U-Net on one volume, or writing a batch of reports."""
    with imagined() as held, torch.no_grad():
        unet = _ready(build_unet(params.encoder, _num_classes(params), False))
        language = _language(params).eval()
        loaded = build_encoder(params.encoder), _classifier(params)
        weights = held.now
        with autocast(_CPU):
            predict_labels(unet, torch.rand(1, 1, *params.preprocess.grid), params.train_seg.patch)
        with autocast(_CPU, params.decoder.width):
            _write_batch(params, language)
        del loaded  # until here it was held beside
        return _inference(weights, held, "one volume in windows, or a batch of reports")


def write_batch(params: Params) -> None:
    """Build the language model and begin a batch of reports."""
    _write_batch(params, _language(params).eval())


def _write_batch(params: Params, language: UVLM) -> None:
    rows = params.generate.batch_size * params.generate.num_beams
    longest = params.generate.max_tokens or params.decoder.max_report_tokens
    _write(language, _visual(params, rows), longest)


def _finest(outputs: Any) -> Tensor:
    """Take the finest resolution of a U-Net with deep supervision."""
    finest: Tensor = outputs[0] if isinstance(outputs, list | tuple) else outputs
    return finest


def _write(language: UVLM, visual: Sequence[Tensor], longest: int) -> None:
    """Read the visual block and one token, with room for the longest report."""
    cache = language.prefill(visual, longest)
    language.next_logits(torch.ones(len(visual[0]), dtype=torch.long), cache)


def _inference(weights: int, held: Held, note: str) -> Sizes:
    return {"weights": (weights, ""), "activations": (held.peak - weights, note)}


def _ready(network: nn.Module) -> nn.Module:
    """Do what `fast_norm.ready` does, except for the layout."""
    use_group_norms(network)
    return network.eval()


def _classifier(params: Params) -> Classifier:
    grid, known = params.preprocess.grid, _cue_sizes(params)
    outputs = known.num_classes, sum(known.kinds)
    return build_classifier(params.encoder, params.classifier, grid, *outputs)


def _cue_sizes(params: Params) -> CueSizes:
    values = VALUE_NAMES if params.classifier.attributes else ()
    return CueSizes.of(abnormality_names(params), values, params.classifier.num_queries)


def _language(params: Params) -> UVLM:
    vocabulary = params.tokenizer.vocabulary_size
    if params.tokenizer.kind == "qwen3":
        vocabulary = QWEN3_VOCABULARY_SIZE
    parts = params.encoder, params.decoder, params.injection, params.preprocess.grid
    qwen = None
    if params.decoder.kind != "scratch":  # the sizes are enough: its weights are not read
        qwen = QwenOrigin(Pretrained(read_architecture(), sha256=""))
        vocabulary = qwen.pretrained.architecture["vocab_size"]
    with _not_moved():
        words = vocabulary, SpecialIds(0, 1, 2, 3, 4), qwen
        return build_uvlm(*parts, *words, _cue_sizes(params))


@contextmanager
def _not_moved() -> Iterator[None]:
    """Build without `Module.to`, which peft calls and tensors without memory do not bear."""
    move = nn.Module.to
    nn.Module.to = lambda module, *_, **__: module  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        nn.Module.to = move  # type: ignore[method-assign]


def _visual(params: Params, count: int) -> list[Tensor]:
    """Make aligned tokens (B, K, C_i) of every stage, and what the options put behind them."""
    plan, encoder, sizes = params.injection, params.encoder, _cue_sizes(params)
    tokens = num_visual_tokens(params.preprocess.grid, encoder.strides, plan.reference_stage)
    visual = [torch.rand(count, tokens, channels) for channels in encoder.channels]
    if further := num_pooled(plan.pooled, sizes.num_queries):
        visual.append(torch.rand(count, further, encoder.channels[-1]))
    if plan.cues != "none":
        visual.append(torch.rand(count, sizes.num_classes, 1 + sum(sizes.kinds)))
    return visual


def _num_classes(params: Params) -> int:
    return len(scheme(params.label_maps.dataset, params.label_maps.scheme).names)
