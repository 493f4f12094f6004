"""What stage 3 trains, and how it is validated: write reports, label them, compare with the truth.

B batch, K visual tokens, C_i channels of encoder stage i, T text tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy.typing as npt
import torch
from torch import Tensor, nn

from uvlm.config import InjectionConfig
from uvlm.inference.decoding import Decoding
from uvlm.inference.writing import write_reports
from uvlm.model.align import align
from uvlm.model.uvlm import UVLM
from uvlm.read_ahead import read_ahead
from uvlm.text.tokenizer import Tokenizer
from uvlm.train.batches import ReportBatch
from uvlm.train.loop.fit import Scores
from uvlm.train.losses.token_loss import token_cross_entropy
from uvlm.train.report_batches import ReportBatches
from uvlm.train.scores import macro_f1

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BATCH_SIZE = 32
Label = Callable[[Sequence[str]], npt.NDArray[Any]]


class ReportNet(nn.Module):
    """UVLM on cached tokens (B, K, C_i), or on volumes with the encoder in front."""

    def __init__(self, uvlm: UVLM, injection: InjectionConfig, encoder: nn.Module | None) -> None:
        super().__init__()
        self.uvlm = uvlm
        self.injection = injection
        self.encoder = encoder

    def forward(self, x: Sequence[Tensor] | Tensor, token_ids: Tensor) -> Tensor:
        """Compute the cross-entropy of the report tokens and <eos>s (eq. 3)."""
        return self.loss(self.visual(x), token_ids)

    def loss(self, visual: Sequence[Tensor], token_ids: Tensor) -> Tensor:
        """Compute the cross-entropy, given aligned tokens."""
        hidden, target_ids = self.uvlm.target_hidden(visual, token_ids)
        return token_cross_entropy(hidden, self.uvlm.decoder.output_weight, target_ids)

    def visual(self, x: Sequence[Tensor] | Tensor) -> Sequence[Tensor]:
        """Encode and align volumes; cached tokens pass unchanged."""
        if self.encoder is None or not isinstance(x, Tensor):
            return list(x)
        plan = self.injection
        return align(self.encoder(x), plan.reference_stage, plan.pooling, plan.deeper)


@dataclass(frozen=True, eq=False)
class ReportValidation:
    """Macro-F1 of greedily written reports (the score) and the loss per token."""

    batches: ReportBatches
    tokenizer: Tokenizer
    max_tokens: int
    label: Label
    fabric: Fabric

    def __call__(self, model: nn.Module) -> Scores:
        """Validate a ReportNet."""
        net = cast(ReportNet, model)
        texts: list[str] = []
        losses: list[Tensor] = []
        numbers = range(len(self.batches.cases))
        chosen = [numbers[start : start + BATCH_SIZE] for start in numbers[::BATCH_SIZE]]
        for read in read_ahead(partial(self.batches.batch, rng=None), chosen, self.fabric.device):
            batch: ReportBatch = self.batches.finish(self.fabric.to_device(read))
            visual = net.visual(batch.x)  # encoded once, for the loss and for writing
            losses.append(net.loss(visual, batch.token_ids))
            written = write_reports(net.uvlm, visual, Decoding(self.max_tokens))
            texts += [self.tokenizer.decode(report.ids) for report in written]
        truth = self.batches.sampler.abnormalities.astype(bool)
        f1 = macro_f1(self.label(texts).astype(bool), truth)
        loss = float(torch.stack(losses).mean())
        return Scores(f1, {"val_macro_f1": f1, "val_loss": loss})
