"""What `generate` reads of a case, ahead of the network: cached tokens, or a volume to encode.

B batch, K visual tokens, C_i channels of encoder stage i.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

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


class Reading(Protocol):
    """Where the tokens of a case come from."""

    def read(self, example: Example) -> Array:
        """Read what a case's tokens are made of, possibly in another process."""

    def tokens(self, example: Example, read: Any, device: torch.device) -> Tensor:
        """Return a case's tokens (K, sum C_i)."""

    def sha256(self, example: Example) -> str:
        """Return the digest of what is read."""


@dataclass(frozen=True, eq=False)
class Cached:
    """Tokens that `encode` stored."""

    manifest: Path
    rows: Mapping[str, Row]

    def read(self, example: Example) -> Array:
        """Read stored tokens and check their digest."""
        row = self._row(example)
        return load_array(resolve(row, "encode"), row.sha256)

    def tokens(self, example: Example, read: Any, device: torch.device) -> Tensor:
        """Return the tokens as they are."""
        return torch.as_tensor(read).float()

    def sha256(self, example: Example) -> str:
        """Return the digest of the stored tokens."""
        return self._row(example).sha256

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

    def read(self, example: Example) -> Array:
        """Read a volume and check its digest."""
        return example.stored()

    def tokens(self, example: Example, read: Any, device: torch.device) -> Tensor:
        """Encode the volume."""
        x = network_input(read, example, self.params.preprocess, device)[None, None]
        return encode_volumes(self.encoder, x, self.params.injection)[0]

    def sha256(self, example: Example) -> str:
        """Return the digest of the volume."""
        return example.volume_sha256


def reading(params: Params, writer: ReportWriter, encodings: Path) -> Reading:
    """Choose by whether the encoder was trained too."""
    model = writer.model
    if params.train_report.encoder_lr_scale > 0:
        ready(model.encoder, writer.device)
        return Encoded(params, model.encoder)
    weights = model.config.weights["encoder"]
    return Cached(encodings, read_encodings(encodings, params.injection, weights))


def read_batches(
    source: Reading, batches: Sequence[Sequence[Example]], device: torch.device
) -> Iterator[tuple[Sequence[Example], Tensor]]:
    """Yield every batch with its tokens (B, K, sum C_i); the next are being read meanwhile."""
    flat = [example for batch in batches for example in batch]
    ahead = read_ahead(source.read, flat, device)
    for batch in batches:
        rows = [source.tokens(example, next(ahead), device) for example in batch]
        yield batch, torch.stack(rows)
