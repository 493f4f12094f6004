"""Batches of stage 3: visual tokens (cached, or volumes to encode) with report tokens.

B batch, N cases, K visual tokens, C_i channels of encoder stage i, T text tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from uvlm.arrays import Floats
from uvlm.config import TrainReportConfig
from uvlm.data.cases import Case
from uvlm.inference.encode import split_stages
from uvlm.seeding import generator
from uvlm.text.tokenizer import Tokenizer
from uvlm.train.augmentation.intensity import normal_like
from uvlm.train.batches import Arrays, CaseSampler, Inputs, ReportBatch

FindPlaces = Callable[[str], Sequence[tuple[int, int]]]  # starts and ends of words in a text


class StoredTokens(NamedTuple):
    """Tokens (B, K, sum C_i) as they are stored; `key` opens the stream of their noise."""

    tokens: Tensor
    key: int | None


@dataclass(frozen=True, eq=False)
class TokenInputs:
    """Cached aligned tokens, one (B, K, C_i) per stage; each channel has its own noise.

    Training draws one of a case's views; without a generator the first view is read, noiseless.
    For a GPU (`on_device`) noise and float32 are left to `finish`.
    """

    paths: Sequence[Path]
    views: Sequence[int]  # of each case
    arrays: Arrays
    channels: Sequence[int]
    noise: npt.NDArray[np.float32]  # (sum C_i,)
    on_device: bool = False

    def __call__(
        self, chosen: Sequence[int], rng: np.random.Generator | None
    ) -> list[Tensor] | StoredTokens:
        """Read the tokens of these cases."""
        tokens = torch.from_numpy(np.stack([self._view(i, rng) for i in chosen]))
        noisy = rng if self.noise.any() else None
        if self.on_device:
            return StoredTokens(tokens, None if noisy is None else int(noisy.integers(2**63 - 1)))
        return self._finished(tokens, noisy)

    def finish(self, x: list[Tensor] | StoredTokens) -> list[Tensor]:
        """Convert on their device the tokens that the loader left for it, and add noise."""
        if not isinstance(x, StoredTokens):
            return x
        noisy = None if x.key is None else np.random.Generator(np.random.PCG64(x.key))
        return self._finished(x.tokens, noisy)

    def _finished(self, tokens: Tensor, noisy: np.random.Generator | None) -> list[Tensor]:
        tokens = tokens.float()
        if noisy is not None:
            tokens = tokens + torch.from_numpy(self.noise).to(tokens.device) * normal_like(
                tokens, noisy
            )
        return split_stages(tokens, self.channels)

    def _view(self, index: int, rng: np.random.Generator | None) -> npt.NDArray[np.floating]:
        """Read one view of a case, (K, sum C_i)."""
        path, count = self.paths[index], self.views[index]
        if count == 1:  # stored without an axis of views
            return self.arrays.whole(path)
        number = 0 if rng is None else int(rng.integers(count))
        tokens: npt.NDArray[np.floating] = self.arrays.region(path, (slice(number, number + 1),))[0]
        return tokens


@dataclass(frozen=True, eq=False)
class PooledInputs:
    """Cached tokens with what `pool` makes of them behind, (B, P, C)."""

    inputs: Inputs
    pool: Callable[[Sequence[Tensor]], Tensor]

    def __call__(self, chosen: Sequence[int], rng: np.random.Generator | None) -> Any:
        """Read the tokens of these cases."""
        return self.inputs(chosen, rng)

    def finish(self, x: Any) -> list[Tensor]:
        """Return one (B, K, C_i) per stage, then the pooled features."""
        stages = self.inputs.finish(x)
        return [*stages, self.pool(stages)]


class Cued(NamedTuple):
    """What other inputs read, and evidence (B, A, 1 + V) for cues."""

    x: Any
    evidence: Tensor


@dataclass(frozen=True, eq=False)
class CuedInputs:
    """Cached tokens with the classifier's evidence behind them; training changes some of it.

    Args:
        inputs: reads tokens.
        evidence: (N, A, 1 + V) logits of these cases.
        dropout: chance of each cue to be unknown, while training.
        case_dropout: chance of a case to have no cue at all, while training.
        told: evidence as it would be if it agreed with the reports, for `truth`.
        truth: chance of each cue to be that of `told`, while training.
    """

    inputs: Inputs
    evidence: Tensor
    dropout: float = 0.0
    case_dropout: float = 0.0
    told: Tensor | None = None
    truth: float = 0.0

    def __call__(self, chosen: Sequence[int], rng: np.random.Generator | None) -> Cued:
        """Read tokens and evidence of these cases."""
        x, evidence = self.inputs(chosen, rng), self.evidence[list(chosen)]
        if rng is not None:
            count, num_classes, _ = evidence.shape
            hidden = rng.random((count, num_classes, 1)) < self.dropout
            hidden |= rng.random((count, 1, 1)) < self.case_dropout
            if self.told is not None:
                is_told = torch.from_numpy(rng.random((count, num_classes, 1)) < self.truth)
                evidence = torch.where(is_told, self.told[list(chosen)], evidence)
            evidence = evidence.masked_fill(torch.from_numpy(hidden), torch.nan)
        return Cued(x, evidence)

    def finish(self, x: Cued) -> list[Tensor]:
        """Return one (B, K, C_i) per stage, then the evidence."""
        return [*self.inputs.finish(x.x), x.evidence]


@dataclass(frozen=True, eq=False)
class ReportBatches:
    """Batches of images and reports, a share of the cases balanced by abnormality."""

    cases: Sequence[Case]
    reports: Sequence[list[int]]
    inputs: Inputs
    config: TrainReportConfig
    sampler: CaseSampler
    seed: int
    pad_id: int
    weights: Sequence[list[float]] | None = None  # of each report's tokens in the loss

    def __call__(self, index: int) -> ReportBatch:
        return self.finish(self.read(index))

    def read(self, index: int) -> ReportBatch:
        """Draw and read batch number `index`."""
        rng = generator(self.seed, "report", index)
        chosen = self.sampler.draw(self.config.batch_size, rng)
        return self.batch(chosen, rng)

    def batch(self, chosen: Sequence[int], rng: np.random.Generator | None) -> ReportBatch:
        """Put chosen cases together."""
        case_ids = [self.cases[i].case_id for i in chosen]
        weights = None if self.weights is None else pad([self.weights[i] for i in chosen], 0.0)
        return ReportBatch(case_ids, self.inputs(chosen, rng), self.token_ids(chosen), weights)

    def token_ids(self, chosen: Sequence[int]) -> Tensor:
        """Pad the reports of chosen cases, (B, T)."""
        return pad([self.reports[i] for i in chosen], self.pad_id)

    def finish(self, batch: ReportBatch) -> ReportBatch:
        """Augment on the device of the batch what the loader left for it."""
        return batch._replace(x=self.inputs.finish(batch.x))


def report_ids(case: Case, tokenizer: Tokenizer, max_tokens: int) -> list[int]:
    """Frame a report as <bos> report <eos>; a report cut at `max_tokens` gets no <eos>."""
    ids = tokenizer.encode(case.report.text)
    end = [tokenizer.eos_id] if len(ids) <= max_tokens else []
    return [tokenizer.bos_id, *ids[:max_tokens], *end]


def token_weights(
    case: Case, tokenizer: Tokenizer, max_tokens: int, decide: FindPlaces, weight: float
) -> list[float]:
    """Weigh the tokens of `report_ids`: `weight` where they are of a deciding word, else 1."""
    text = case.report.text
    letters = np.zeros(len(text) + 1, dtype=bool)
    for start, end in decide(text):
        letters[start:end] = True
    decides = [bool(letters[start:end].any()) for start, end in tokenizer.places(text)]
    count = len(decides)
    end_weight = [1.0] if count <= max_tokens else []
    return [1.0, *(weight if d else 1.0 for d in decides[:max_tokens]), *end_weight]


def pad(rows: Sequence[list[int]] | Sequence[list[float]], value: float) -> Tensor:
    """Pad numbers of tokens on the right: (B, T)."""
    tokens = [torch.tensor(row) for row in rows]
    return nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=value)


def token_statistics(
    inputs: TokenInputs, num_cases: int, token_counts: Sequence[int]
) -> tuple[Floats, Floats]:
    """Compute mean and deviation of every channel, (sum C_i,) each.

    Args:
        inputs: cached tokens of training cases.
        num_cases: how many of them count, from the first.
        token_counts: tokens of every stage that are not padding.
    """
    total, squares = np.zeros(sum(inputs.channels)), np.zeros(sum(inputs.channels))
    for number in range(num_cases):
        stages = inputs.finish(inputs([number], None))
        own = [s[0, :k].double() for s, k in zip(stages, token_counts, strict=True)]
        total += np.concatenate([tokens.mean(dim=0).numpy() for tokens in own])
        squares += np.concatenate([tokens.square().mean(dim=0).numpy() for tokens in own])
    mean = total / num_cases
    # E[x^2] - E[x]^2 may round to less than 0 where a channel is constant.
    return mean, np.sqrt(np.maximum(squares / num_cases - mean**2, 0.0))
