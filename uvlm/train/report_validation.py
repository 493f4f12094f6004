"""Stage 3's validation: write reports, read them with the labeller, compare with the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy.typing as npt
import torch
from torch import Tensor, nn

from uvlm.inference.decoding import Decoding
from uvlm.inference.writing import write_reports
from uvlm.text.tokenizer import Tokenizer
from uvlm.train.batches import ReportBatch
from uvlm.train.loop.fit import Scores
from uvlm.train.report_batches import ReportBatches
from uvlm.train.report_net import ReportNet
from uvlm.train.scores import macro_f1

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BATCH_SIZE = 32
Label = Callable[[Sequence[str]], npt.NDArray[Any]]


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
        for start in range(0, len(self.batches.cases), BATCH_SIZE):
            chosen = range(start, min(start + BATCH_SIZE, len(self.batches.cases)))
            batch: ReportBatch = self.fabric.to_device(self.batches.batch(chosen, None))
            visual = net.visual(batch.x)
            losses.append(net.loss(visual, batch.token_ids))
            written = write_reports(net.uvlm, visual, Decoding(self.max_tokens))
            texts += [self.tokenizer.decode(report.ids) for report in written]
        truth = self.batches.sampler.abnormalities.astype(bool)
        f1 = macro_f1(self.label(texts).astype(bool), truth)
        loss = float(torch.stack(losses).mean())
        return Scores(f1, {"val_macro_f1": f1, "val_loss": loss})
