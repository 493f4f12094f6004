"""What `benchmarks.gpu` measures: steps of the three trainings, encoding, masks, writing.

Inputs are random and already on the device. Each function prepares a step and returns it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from benchmarks.sizes import SPECIALS, Size
from uvlm.config import OptimConfig
from uvlm.device import autocast
from uvlm.inference.decoding import Decoding
from uvlm.inference.encode import encode_volumes
from uvlm.inference.sliding_window import predict_labels
from uvlm.inference.writing import write_reports
from uvlm.model.build import build_classifier, build_encoder, build_unet
from uvlm.model.fast_norm import ready, ready_to_train
from uvlm.train.batches import ClsBatch, ReportBatch, SegBatch
from uvlm.train.cls import ClassifierNet
from uvlm.train.loop.optim import build_optimizer
from uvlm.train.losses.objectives import ClsObjective, Objective, ReportObjective, SegObjective
from uvlm.train.report_net import ReportNet

BATCH: Final = 2
ABNORMALITIES: Final = 18
Work = Callable[[], object]


def segmentation(size: Size, device: torch.device) -> tuple[nn.Module, Objective]:
    """Build the network of stage 1 and its objective."""
    config = size.params.train_seg
    unet = build_unet(size.params.encoder, size.num_classes)
    ready_to_train(unet)
    weights = torch.ones(size.num_classes, device=device)
    return unet, SegObjective(weights, config.deep_supervision, config.dice_classes)


def classification(size: Size, device: torch.device) -> tuple[nn.Module, Objective]:
    """Build the network of stage 2 and its objective."""
    encoder = build_encoder(size.params.encoder)
    ready_to_train(encoder)
    parts = size.params.encoder, size.params.classifier, size.grid, ABNORMALITIES
    return ClassifierNet(encoder, build_classifier(*parts)), ClsObjective()


def reports(
    size: Size, device: torch.device, encoder: nn.Module | None = None
) -> tuple[nn.Module, Objective]:
    """Build the network of stage 3 and its objective."""
    uvlm = size.uvlm(size.compact_vocabulary).train()
    return ReportNet(uvlm, size.params.injection, encoder), ReportObjective()


def stage_1(size: Size, device: torch.device) -> Work:
    """Train the U-Net on patches, with deep supervision."""
    x = torch.randn(BATCH, 1, *size.patch, device=device)
    target = torch.randint(size.num_classes, (BATCH, *size.patch), device=device)
    batch = SegBatch([], x, target.to(torch.uint8))
    return _step(*segmentation(size, device), batch, size.params.train_seg.optim, device)


def stage_2(size: Size, device: torch.device) -> Work:
    """Train encoder and classifier on whole volumes."""
    x = torch.randn(BATCH, 1, *size.grid, device=device)
    truth = torch.randint(2, (BATCH, ABNORMALITIES), device=device).float()
    batch = ClsBatch([], x, truth)
    return _step(*classification(size, device), batch, size.params.train_cls.optim, device)


def stage_3_unfrozen(size: Size, device: torch.device) -> Work:
    """Train the decoder and the encoder."""
    encoder = build_encoder(size.params.encoder)
    ready_to_train(encoder)
    return _stage_3(size, device, encoder, torch.randn(BATCH, 1, *size.grid, device=device))


def stage_3_uncached(size: Size, device: torch.device) -> Work:
    """Train the decoder; the frozen encoder reads the volumes in each step."""
    encoder = build_encoder(size.params.encoder).requires_grad_(False)
    ready_to_train(encoder)
    return _stage_3(size, device, encoder, torch.randn(BATCH, 1, *size.grid, device=device))


def stage_3_cached(size: Size, device: torch.device) -> Work:
    """Train the decoder on tokens as `encode` stores them."""
    return _stage_3(size, device, None, [tokens.to(device) for tokens in size.visual(BATCH)])


def encoding(size: Size, device: torch.device) -> Work:
    """Encode a volume as the stage `encode` does, without reading and storing."""
    encoder = build_encoder(size.params.encoder)
    ready(encoder, device)
    x = torch.randn(1, 1, *size.grid, device=device)
    return lambda: encode_volumes(encoder.eval(), x, size.params.injection)


def masks(size: Size, device: torch.device) -> Work:
    """Predict the label map of a volume."""
    unet = build_unet(size.params.encoder, size.num_classes, False).eval()
    ready(unet, device)
    x = torch.randn(1, 1, *size.grid, device=device)

    def work() -> None:
        with torch.no_grad(), autocast(device):
            predict_labels(unet, x, size.patch)

    return work


def writing(size: Size, device: torch.device, batch: int, tokens: int) -> Work:
    """Write reports greedily, to the full length."""
    model = size.uvlm(size.compact_vocabulary).to(device)
    visual = [each.to(device) for each in size.visual(batch)]
    model.specials = replace(SPECIALS, eos=-1)  # no token ends a report

    def work() -> None:
        with autocast(device, size.params.decoder.width):
            write_reports(model, visual, Decoding(tokens))

    return work


def _stage_3(
    size: Size, device: torch.device, encoder: nn.Module | None, x: list[Tensor] | Tensor
) -> Work:
    token_ids = torch.randint(5, size.compact_vocabulary, (BATCH, size.tokens + 1), device=device)
    batch = ReportBatch([], x, token_ids)
    return _step(*reports(size, device, encoder), batch, size.params.train_report.optim, device)


def _step(
    net: nn.Module, objective: Objective, batch: Any, optim: OptimConfig, device: torch.device
) -> Work:
    """Forward, backward, clipping, optimiser."""
    net.to(device)
    optimizer = build_optimizer(net, optim)

    def work() -> None:
        with autocast(device):
            loss = torch.stack(list(objective.loss(net, batch).values())).sum()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), optim.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return work
