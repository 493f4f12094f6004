"""From visual tokens to probabilities and report texts: what `generate` and `predict` share.

B batch, K visual tokens, C_i channels of encoder stage i, A abnormalities, E numbers of the
classifier's embedding.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from uvlm.device import autocast, choose_device
from uvlm.errors import DataError
from uvlm.inference.decoding import Begun, Decoding, Ended, Written
from uvlm.inference.encode import split_stages
from uvlm.inference.held import Spans, hold
from uvlm.inference.writing import write_reports
from uvlm.model.align import deepest_tokens, feature_grids
from uvlm.model.cues import shifted
from uvlm.model.load import ReportModel
from uvlm.model.pooled import Pooler, Pooling
from uvlm.model.trained import Part
from uvlm.text.tokenizer import Tokenizer

STOP_AFTER_REPEATS: Final = 5  # no report of the data sets says anything this often in a row


class WrittenReport(NamedTuple):
    """A report and why it ended."""

    text: str
    ended: Ended


@dataclass(frozen=True, eq=False)
class ReportWriter:
    """Classifier, language decoder and tokenizer of a report model, on one device.

    With `spans`, impressions are held to their findings as these read both; see held.py.
    """

    model: ReportModel
    tokenizer: Tokenizer
    device: torch.device
    trained: Collection[Part]
    spans: Spans | None = None

    @classmethod
    def of(cls, model: ReportModel, spans: Spans | None = None) -> Self:
        """Move what writing needs to the device of UVLM_DEVICE."""
        tokenizer = Tokenizer.load(model.tokenizer.parent)
        found, expected = tokenizer.vocabulary_size, model.config.vocabulary_size
        if found != expected:
            fact = f"has {found} tokens but the decoder has {expected}"
            remedy = "write the folder again with `dvc repro -f -s train_report`"
            raise DataError(model.tokenizer, fact, remedy)
        device = choose_device()
        model.classifier.to(device)
        model.uvlm.to(device)
        return cls(model, tokenizer, device, model.trained, spans)

    def visual(self, tokens: Tensor) -> list[Tensor]:
        """Cut (B, K, sum C_i) as `encode` stores it into one (B, K, C_i) per stage."""
        channels = self.model.config.encoder.channels
        return split_stages(tokens.to(self.device, torch.float32), channels)

    def seen(
        self,
        visual: Sequence[Tensor],
        own: Sequence[Tensor],
        shift: float = 0.0,
        evidence: Tensor | None = None,
    ) -> list[Tensor]:
        """Return all that the decoder sees: its tokens, and behind them what the options add.

        Args:
            visual: aligned tokens of every stage, (B, K, C_i).
            own: the same of the encoder that the classifier reads.
            shift: added to the logit of every presence; above 0, reports claim more.
            evidence: in place of the classifier's, (B, A, 1 + V); see cue_controls.py.
        """
        seen, pooling = list(visual), self.model.config.injection.pooled
        if pooling != "none":
            seen.append(self._pooler(pooling)(own))
        if self.model.uvlm.cues is not None:
            evidence = self.evidence(own) if evidence is None else evidence.to(self.device)
            seen.append(shifted(evidence, shift))
        return seen

    @torch.no_grad()
    def evidence(self, visual: Sequence[Tensor]) -> Tensor:
        """Return the classifier's logits (B, A, 1 + V); NaN if it was never trained."""
        with autocast(self.device):
            evidence = self.model.classifier.evidence(self._deepest(visual)).float()
        return evidence if "classifier" in self.trained else evidence * torch.nan

    @torch.no_grad()
    def probabilities(self, visual: Sequence[Tensor]) -> list[dict[str, float]]:
        """Classify; one row per case, empty if the classifier was never trained."""
        if "classifier" not in self.trained:
            return [{} for _ in visual[0]]
        with autocast(self.device):
            logits: Tensor = self.model.classifier(self._deepest(visual))  # (B, A)
        rows = torch.sigmoid(logits.float()).tolist()
        names = self.model.config.abnormalities
        return [{name: round(p, 6) for name, p in zip(names, row, strict=True)} for row in rows]

    @torch.no_grad()
    def embeddings(self, visual: Sequence[Tensor]) -> Tensor:
        """Return what the classifier's last layer sees, (B, E)."""
        with autocast(self.device):
            embedded: Tensor = self.model.classifier.embed(self._deepest(visual))
        return embedded.float()

    def _pooler(self, pooling: Pooling) -> Pooler:
        config, plan = self.model.config, self.model.config.injection
        grids = feature_grids(config.grid, config.encoder.strides)
        return Pooler(pooling, self.model.classifier, grids, plan.reference_stage, plan.deeper)

    def _deepest(self, visual: Sequence[Tensor]) -> Tensor:
        """Recover f_N from the aligned tokens, where it is whatever the reference stage."""
        config, injection = self.model.config, self.model.config.injection
        grids = feature_grids(config.grid, config.encoder.strides)
        return deepest_tokens(visual[-1], grids, injection.reference_stage, injection.deeper)

    def write(
        self,
        visual: Sequence[Tensor],
        decoding: Decoding | None = None,
        randomness: torch.Generator | None = None,
    ) -> list[WrittenReport]:
        """Write one report per row, by default greedily and at most as long as in training.

        `visual` is what the decoder has `seen`. A decoder that was never trained writes nothing.
        """
        if "language" not in self.trained:
            return [WrittenReport("", "eos") for _ in visual[0]]
        config = self.model.config.decoder
        if decoding is None:
            limit = config.max_report_tokens
            decoding = Decoding(limit, stop_after_repeats=STOP_AFTER_REPEATS)
        with autocast(self.device, config.width):
            rows = write_reports(self.model.uvlm, visual, decoding, randomness)
            if self.spans is not None:
                rows = self._hold(rows, self.spans, visual, decoding, randomness)
        return [WrittenReport(self._text(row.ids), row.ended) for row in rows]

    def _hold(
        self,
        rows: list[Written],
        spans: Spans,
        visual: Sequence[Tensor],
        decoding: Decoding,
        randomness: torch.Generator | None,
    ) -> list[Written]:
        """Write impressions again that name more than their findings."""

        def write_on(numbers: list[int], begun: list[Begun]) -> list[Written]:
            some = [tokens[numbers] for tokens in visual]
            return write_reports(self.model.uvlm, some, decoding, randomness, begun)

        return hold(rows, spans, self._text, write_on)

    def _text(self, ids: Sequence[int]) -> str:
        return printable(self.tokenizer.decode(ids))


def printable(text: str) -> str:
    """Blank out control characters: a byte-level vocabulary can spell terminal commands."""
    return "".join(c if c.isprintable() else " " for c in text)


def nearest_cases(queries: Tensor, candidates: Iterable[tuple[Sequence[str], Tensor]]) -> list[str]:
    """Find the candidate with the largest cosine similarity, the first of equals.

    Its report is what a retrieval system would return: a baseline for a model that writes.

    Args:
        queries: (N, E) embeddings.
        candidates: batches of ids and embeddings (B, E), read once and not kept.

    Returns:
        N ids, empty where there is no candidate.
    """
    units = normalize(queries, dim=1)
    best = torch.full((len(queries),), -torch.inf, device=queries.device)
    names = [""] * len(queries)
    for ids, embeddings in candidates:
        similarity, place = (units @ normalize(embeddings, dim=1).T).max(dim=1)
        for number in torch.nonzero(similarity > best).flatten().tolist():
            names[number] = ids[int(place[number])]
        best = torch.maximum(best, similarity)
    return names
