"""How much arithmetic the networks of a stage do: the least time that a chip can take for it.

FLOP are counted in an imagined run of the very code that trains. Divided by a chip's published peak
they are a floor, not a forecast: reading memory, starting kernels and waiting for data come on top.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from uvlm.config import Params
from uvlm.data.labels.pseudo.atm22 import WINDOW
from uvlm.data.labels.pseudo.atm22_network import AirwayUNet
from uvlm.device import autocast
from uvlm.estimates.imagined import imagined
from uvlm.estimates.networks import (
    Training,
    cls_training,
    report_training,
    seg_training,
    write_batch,
)
from uvlm.inference.encode import encode_volumes
from uvlm.model.build import build_encoder

_CPU = torch.device("cpu")
_BUILD = {"train_seg": seg_training, "train_cls": cls_training, "train_report": report_training}


def flop(stage: str, params: Params) -> int | None:
    """Count the FLOP of one step of a training, or of one case; None if a stage has no network."""
    if stage in _BUILD:
        return _of_step(_BUILD[stage], params)
    if stage == "encode":
        return _of_encoding(params)
    if stage == "generate":
        return _of_masks(params) + write_batch_flop(params)
    return None


def write_batch_flop(params: Params) -> int:
    """Count reading the visual block and one token of one report."""
    with imagined() as held, torch.no_grad(), autocast(_CPU, params.decoder.width):
        write_batch(params)
        return held.flop // (params.generate.batch_size * params.generate.num_beams)


def airway_window_flop() -> int:
    """Count one window of ATM22's network."""
    with imagined() as held, torch.no_grad():
        AirwayUNet().eval()(torch.rand(1, 1, WINDOW, WINDOW, WINDOW))
        return held.flop


def _of_step(build: Callable[[Params], Training], params: Params) -> int:
    with imagined() as held:
        build(params).step()
        return held.flop


def _of_encoding(params: Params) -> int:
    with imagined() as held:
        volume = torch.rand(1, 1, *params.preprocess.grid)
        encode_volumes(build_encoder(params.encoder).eval(), volume, params.injection)
        return held.flop


def _of_masks(params: Params) -> int:
    with imagined() as held, torch.no_grad(), autocast(_CPU):
        seg_training(params).validate()
        return held.flop
