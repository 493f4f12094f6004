"""What `generate` reads of a case, ahead of the network: cached tokens, and a volume to encode.

B batch, K visual tokens, C_i channels of encoder stage i.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from uvlm.arrays import Array
from uvlm.config import Params
from uvlm.data.examples import Example
from uvlm.errors import DataError
from uvlm.inference.encode import encode_volumes, network_input, read_encodings
from uvlm.inference.report_writer import ReportWriter
from uvlm.model.fast_norm import ready
from uvlm.read_ahead import read_ahead
from uvlm.store import Row, load_array, resolve


class Tokens(NamedTuple):
    """Tokens of a case (K, sum C_i) or of a batch (B, K, sum C_i).

    Both are the same unless the encoder was trained with the decoder: the classifier goes on
    reading those of its own encoder.
    """

    decoder: Tensor
    classifier: Tensor


class Reading(Protocol):
    """Where the tokens of a case come from."""

    def read(self, example: Example) -> Any:
        """Read what a case's tokens are made of, possibly in another process."""

    def tokens(self, example: Example, read: Any, device: torch.device) -> Tokens:
        """Return a case's tokens."""

    def digests(self, example: Example) -> list[str]:
        """Return the digests of what is read."""


@dataclass(frozen=True, eq=False)
class Cached:
    """Tokens that `encode` stored, of the encoder that the classifier was made for."""

    manifest: Path
    rows: Mapping[str, Row]

    def read(self, example: Example) -> Array:
        """Read stored tokens and check their digest."""
        row = self._row(example)
        return load_array(resolve(row, "encode"), row.sha256)

    def tokens(self, example: Example, read: Any, device: torch.device) -> Tokens:
        """Return the tokens as they are."""
        tokens = torch.as_tensor(read).float()
        return Tokens(tokens, tokens)

    def digests(self, example: Example) -> list[str]:
        """Return the digest of the stored tokens."""
        return [self._row(example).sha256]

    def _row(self, example: Example) -> Row:
        if (row := self.rows.get(example.case_id)) is None:
            fact = f"case {example.case_id} is not encoded"
            raise DataError(self.manifest, fact, "run `dvc repro encode`")
        return row


@dataclass(frozen=True, eq=False)
class Encoded:
    """Tokens of an encoder that was trained together with the decoder."""

    params: Params
    encoder: nn.Module
    cached: Cached

    def read(self, example: Example) -> tuple[Array, Array]:
        """Read a volume and the stored tokens, and check their digests."""
        return example.stored(), self.cached.read(example)

    def tokens(self, example: Example, read: Any, device: torch.device) -> Tokens:
        """Encode the volume for the decoder."""
        volume, stored = read
        x = network_input(volume, example, self.params.preprocess, device)[None, None]
        encoded = encode_volumes(self.encoder, x, self.params.injection)[0]
        return Tokens(encoded, self.cached.tokens(example, stored, device).classifier)

    def digests(self, example: Example) -> list[str]:
        """Return the digests of the volume and of the stored tokens."""
        return [example.volume_sha256, *self.cached.digests(example)]


def cached_tokens(params: Params, writer: ReportWriter, encodings: Path) -> Cached:
    """Find the stored tokens of every case; refuse those of another encoder."""
    config = writer.model.config
    weights = config.weights[config.classifier_encoder]
    return Cached(encodings, read_encodings(encodings, params.injection, weights))


def reading(params: Params, writer: ReportWriter, cached: Cached) -> Reading:
    """Choose by whether the encoder was trained too."""
    if params.train_report.encoder_lr_scale == 0:
        return cached
    encoder = writer.model.encoder
    ready(encoder, writer.device)
    return Encoded(params, encoder, cached)


def read_batches(
    source: Reading, batches: Sequence[Sequence[Example]], device: torch.device
) -> Iterator[tuple[Sequence[Example], Tokens]]:
    """Yield every batch with its tokens; the next are being read meanwhile."""
    flat = [example for batch in batches for example in batch]
    ahead = read_ahead(source.read, flat, device)
    for batch in batches:
        rows = [source.tokens(example, next(ahead), device) for example in batch]
        yield batch, Tokens(*map(torch.stack, zip(*rows, strict=True)))
