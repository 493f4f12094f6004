"""An untrained model that writes something else for every image."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tests.tiny_qwen import SIZES
from uvlm.config import DecoderConfig, EncoderConfig, InjectionConfig
from uvlm.inference.decoding import Decoding
from uvlm.inference.writing import write_reports
from uvlm.model.build import build_uvlm
from uvlm.model.uvlm import UVLM, SpecialIds

BOS, EOS = 3, 4
CHANNELS = (2, 3, 4)


def tiny_writer(vocabulary_size: int = 12, seed: int = 3, kind: str = "scratch") -> UVLM:
    """Untrained, with weights that make rows differ and <eos> come at different times.

    A Qwen3 kind starts from the folder of UVLM_QWEN3, as `write_qwen` writes it.
    """
    torch.manual_seed(seed)
    encoder = EncoderConfig(channels=CHANNELS, strides=(1, 2, 2), blocks=(1, 1, 1), decoder_convs=1)
    sizes = {"layers": 4, "width": 16, "heads": 2, "ffn": 32} if kind == "scratch" else SIZES
    rest = {"lora_rank": 4, "lora_alpha": 8.0, "lora_dropout": 0.0, "max_report_tokens": 30}
    decoder = DecoderConfig.model_validate({"kind": kind, "dropout": 0.3, **sizes, **rest})
    injection = InjectionConfig(
        kind="multi_layer",
        reference_stage=3,
        layer_by_stage={3: 1, 2: 2, 1: 3},
        pooling="max",
        deeper="zeros",
        position="before_layer",
        gate="none",
        projection="linear",
        input_tokens="reference",
    )
    specials = SpecialIds(pad=0, start_of_image=1, end_of_image=2, bos=BOS, eos=EOS)
    model = build_uvlm(encoder, decoder, injection, (8, 8, 8), vocabulary_size, specials)
    for weight in model.parameters():
        weight.data.add_(0.4 * torch.randn_like(weight))
    return model.eval()


def endless(model: UVLM) -> UVLM:
    """Let no token end a report."""
    model.specials = replace(model.specials, eos=-1)
    return model


def greedy(model: UVLM, visual: list[Tensor], limit: int) -> list[list[int]]:
    return [report.ids for report in write_reports(model, visual, Decoding(limit))]


def tiny_visual(rows: int = 6) -> list[Tensor]:
    torch.manual_seed(0)
    return [3 * torch.randn(rows, 8, channels) for channels in CHANNELS]
