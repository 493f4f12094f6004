"""What stage 3 trains, and how it is validated: write reports, label them, compare with the truth.

B batch, K visual tokens, C_i channels of encoder stage i, T text tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, cast

import numpy.typing as npt
import torch
from torch import Tensor, nn

from uvlm.config import InjectionConfig
from uvlm.inference.decoding import Decoding
from uvlm.inference.report_writer import STOP_AFTER_REPEATS
from uvlm.inference.writing import write_reports
from uvlm.model.align import align
from uvlm.model.uvlm import UVLM
from uvlm.read_ahead import read_ahead
from uvlm.store.fanout import in_batches
from uvlm.text.tokenizer import Tokenizer
from uvlm.train.loop.fit import Scores
from uvlm.train.losses.token_loss import token_cross_entropy
from uvlm.train.report_batches import ReportBatches
from uvlm.train.scores import macro_f1

if TYPE_CHECKING:
    from lightning_fabric import Fabric

WRITTEN_AT_ONCE: Final = 32
Label = Callable[[Sequence[str]], npt.NDArray[Any]]


class ReportNet(nn.Module):
    """UVLM on cached tokens (B, K, C_i), or on volumes with the encoder in front."""

    def __init__(self, uvlm: UVLM, injection: InjectionConfig, encoder: nn.Module | None) -> None:
        super().__init__()
        self.uvlm = uvlm
        self.injection = injection
        self.encoder = encoder

    def forward(
        self, x: Sequence[Tensor] | Tensor, token_ids: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Compute the cross-entropy of the report tokens and <eos>s (eq. 3)."""
        return self.loss(self.visual(x), token_ids, weights)

    def loss(
        self, visual: Sequence[Tensor], token_ids: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Compute the cross-entropy, given aligned tokens; `weights` (B, T) are of `token_ids`."""
        hidden, target_ids = self.uvlm.target_hidden(visual, token_ids)
        if weights is not None:
            weights = weights[:, 1:][token_ids[:, 1:] != self.uvlm.specials.pad]
        return token_cross_entropy(hidden, self.uvlm.decoder.output_weight, target_ids, weights)

    def visual(self, x: Sequence[Tensor] | Tensor) -> Sequence[Tensor]:
        """Encode and align volumes; cached tokens pass unchanged."""
        if self.encoder is None or not isinstance(x, Tensor):
            return list(x)
        plan = self.injection
        return align(self.encoder(x), plan.reference_stage, plan.pooling, plan.deeper)


@dataclass(frozen=True, eq=False)
class ReportValidation:
    """Macro-F1 of greedily written reports (the score) and the loss per token.

    A decoder that has hardly learned never ends a report by itself. So a report that repeats itself
    stops, as in the stage `generate`, and none becomes much longer than the longest reference.
    """

    batches: ReportBatches
    tokenizer: Tokenizer
    max_tokens: int
    label: Label
    fabric: Fabric

    def __call__(self, model: nn.Module) -> Scores:
        """Validate a ReportNet."""
        net, decoding = cast(ReportNet, model), self._decoding()
        texts: list[str] = []
        losses: list[Tensor] = []
        groups = in_batches(range(len(self.batches.cases)), WRITTEN_AT_ONCE)
        size = self.batches.config.batch_size
        parts = [in_batches(group, size) for group in groups]
        read = partial(self.batches.inputs, rng=None)
        ahead = read_ahead(read, chain.from_iterable(parts), self.fabric.device)
        for chosen, cut in zip(groups, parts, strict=True):
            # Encoded once, for the loss and for writing.
            visual = self._visual(net, islice(ahead, len(cut)))
            losses.append(net.loss(visual, self.fabric.to_device(self.batches.token_ids(chosen))))
            written = write_reports(net.uvlm, visual, decoding)
            texts += [self.tokenizer.decode(report.ids) for report in written]
        truth = self.batches.sampler.abnormalities.astype(bool)
        f1 = macro_f1(self.label(texts).astype(bool), truth)
        loss = float(torch.stack(losses).mean())
        return Scores(f1, {"val_macro_f1": f1, "val_loss": loss})

    def _visual(self, net: ReportNet, read: Iterable[Any]) -> list[Tensor]:
        """Return the tokens (B, K, C_i) of what was read, as many cases at once as in training."""
        images = (self.batches.inputs.finish(self.fabric.to_device(part)) for part in read)
        return [torch.cat(stage) for stage in zip(*map(net.visual, images), strict=True)]

    def _decoding(self) -> Decoding:
        longest = max(map(len, self.batches.reports))
        return Decoding(
            min(self.max_tokens, 3 * longest // 2), stop_after_repeats=STOP_AFTER_REPEATS
        )
