"""What stage 3 trains: the language decoder on cached tokens, or with the encoder in front."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from uvlm.config import InjectionConfig
from uvlm.model.align import align
from uvlm.model.uvlm import UVLM
from uvlm.train.losses.token_loss import token_cross_entropy


class ReportNet(nn.Module):
    """UVLM on cached tokens, or with the encoder in front: what stage 3 trains."""

    def __init__(self, uvlm: UVLM, injection: InjectionConfig, encoder: nn.Module | None) -> None:
        super().__init__()
        self.uvlm = uvlm
        self.injection = injection
        self.encoder = encoder

    def forward(self, x: Sequence[Tensor] | Tensor, token_ids: Tensor) -> Tensor:
        """Cross-entropy of the report tokens and <eos>s (eq. 3)."""
        return self.loss(self.visual(x), token_ids)

    def loss(self, visual: Sequence[Tensor], token_ids: Tensor) -> Tensor:
        """Cross-entropy, given aligned tokens."""
        hidden, target_ids = self.uvlm.target_hidden(visual, token_ids)
        return token_cross_entropy(hidden, self.uvlm.decoder.output_weight, target_ids)

    def visual(self, x: Sequence[Tensor] | Tensor) -> Sequence[Tensor]:
        """Align the stages' features of volumes; cached tokens pass as they are."""
        if self.encoder is None or not isinstance(x, Tensor):
            return list(x)
        plan = self.injection
        return align(self.encoder(x), plan.reference_stage, plan.pooling, plan.deeper)
