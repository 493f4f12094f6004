"""The paper's sizes, and tiny ones that run the same code in seconds for the tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from pipeline.profiles import compose
from uvlm.config import Grid, Params, parse_params
from uvlm.model.align import num_visual_tokens
from uvlm.model.build import build_uvlm
from uvlm.model.describe import QWEN3_VOCABULARY_SIZE
from uvlm.model.uvlm import UVLM, SpecialIds

ROOT: Final = Path(__file__).parents[1]
SPECIALS: Final = SpecialIds(pad=0, start_of_image=1, end_of_image=2, bos=3, eos=4)


@dataclass(frozen=True)
class Size:
    """What to build, and how much of it to measure."""

    params: Params
    vocabulary: int  # of Qwen3
    num_classes: int
    num_labels: int  # in a patch to augment
    tokens: int  # written, and trained on
    loss_tokens: int
    repeats: int
    draws: int

    @property
    def grid(self) -> Grid:
        """Voxels of a volume."""
        return self.params.preprocess.grid

    @property
    def patch(self) -> Grid:
        """Voxels of a patch."""
        return self.params.train_seg.patch

    @property
    def compact_vocabulary(self) -> int:
        """Words of our own tokenizer."""
        return self.params.tokenizer.vocabulary_size

    def uvlm(self, vocabulary: int) -> UVLM:
        """Build an untrained model, for inference."""
        torch.manual_seed(0)
        params = self.params
        return build_uvlm(
            params.encoder, params.decoder, params.injection, self.grid, vocabulary, SPECIALS
        ).eval()

    def visual(self, batch: int = 1) -> list[Tensor]:
        """Draw aligned tokens, one (B, K, C_i) per stage."""
        strides, stage = self.params.encoder.strides, self.params.injection.reference_stage
        count = num_visual_tokens(self.grid, strides, stage)
        return [torch.randn(batch, count, c) for c in self.params.encoder.channels]


def paper() -> Size:
    """Size of the paper: the profile `chest`."""
    params = parse_params(compose(ROOT, "chest"), "conf/profile/chest.yaml")
    return Size(
        params,
        vocabulary=QWEN3_VOCABULARY_SIZE,
        num_classes=49,
        num_labels=40,
        tokens=512,
        loss_tokens=2048,
        repeats=3,
        draws=400,
    )


def tiny() -> Size:
    """Size of a test."""
    document = compose(ROOT, "chest")
    document["preprocess"]["grid"] = [64, 64, 64]
    document["encoder"] |= {"channels": [2, 3, 4, 5, 6, 8], "blocks": [1] * 6}
    document["decoder"] |= {"width": 32, "heads": 2, "ffn": 64, "max_report_tokens": 64}
    document["tokenizer"]["vocabulary_size"] = 300
    document["train_seg"]["patch"] = [32, 64, 64]
    return Size(
        parse_params(document, "tiny"),
        vocabulary=400,
        num_classes=5,
        num_labels=4,
        tokens=8,
        loss_tokens=16,
        repeats=1,
        draws=4,
    )
