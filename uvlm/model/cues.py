"""Cue tokens: what the classifier believes of each abnormality, behind the visual tokens.

    token_a = name_a + W [2 p_a - 1, logit_a / 4, 2 q_a1 - 1, ..., 2 q_aV - 1]

p_a is the probability that the abnormality is present, q_av that it has value v (right, upper,
small, ...) if it is. Cues enter at the input only, and text sees them as it sees visual tokens.
What is unknown adds nothing, so a token of unknown evidence is the abnormality's name alone.

`by_kind` makes one token of presence, one of side, one of lobe and one of size instead, each with a
name of its kind added and only its own columns of W. `likeliest` says of each kind which value is
likeliest, as 1 against -1, however sure the classifier is: q_av is 1 for it and for every other
that is likelier than not, else 0.

Evidence is kept as logits, and NaN where it is unknown; cues of one kind alone know nothing of the
other.

Among many visual tokens a decoder is slow to learn where to look for a cue. `CueReadout` gives text
an attention of its own over the cues, behind the last layer:

    h_t + O softmax(Q h_t (K norm(tokens))^T / sqrt(d)) V norm(tokens),   d = E / heads

B batch, T text tokens, A abnormalities, V values, K kinds of values, P tokens of one abnormality,
E width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FIRST_STD: Final = 0.5  # about as large as projected visual tokens
_FIRST_READ_STD: Final = 0.02  # almost nothing is read at first
_LOGIT_SCALE: Final = 4.0
_LARGEST: Final = 1.5  # of a scaled logit; beyond it the classifier is sure anyway
_OF_PRESENCE: Final = 2  # features


class CueSizes(NamedTuple):
    """How many abnormalities a classifier knows, how many values of each kind, and its queries."""

    num_classes: int
    kinds: tuple[int, ...]  # (K,), V together
    num_queries: int = 0

    @classmethod
    def of(
        cls, abnormalities: Sequence[str], values: Sequence[str], num_queries: int = 0
    ) -> CueSizes:
        """Count, given values as "side right": the kind, and behind the blank its value."""
        kinds = groupby(values, key=lambda value: value.partition(" ")[0])
        counts = tuple(len(list(group)) for _, group in kinds)
        return cls(len(abnormalities), counts, num_queries)


@dataclass(frozen=True)
class CueForm:
    """What cues know, and how they say it; see the head of the module."""

    known: Literal["presence", "attributes", "both"] = "both"
    tokens: Literal["one", "by_kind"] = "one"
    values: Literal["graded", "likeliest"] = "graded"

    def parts(self, kinds: Sequence[int]) -> list[list[bool]]:
        """Say for each token of an abnormality which features it holds, (P, 2 + V)."""
        counts = [_OF_PRESENCE, *kinds]
        columns = [kind for kind, count in enumerate(counts) for _ in range(count)]
        first, last = int(self.known == "attributes"), 0 if self.known == "presence" else len(kinds)
        own = [kind for kind in range(len(kinds) + 1) if first <= kind <= last]
        if self.tokens == "one":
            return [[kind in own for kind in columns]]
        return [[kind == part for kind in columns] for part in own]


class CueTokens(nn.Module):
    """Evidence (B, A, 1 + V) as logits, presence first -> tokens (B, A * P, E)."""

    cuts: Tensor
    parts: Tensor

    def __init__(self, sizes: CueSizes, width: int, form: CueForm) -> None:
        super().__init__()
        self.kinds, self.form = sizes.kinds, form
        parts = torch.tensor(form.parts(sizes.kinds))
        self.register_buffer("parts", parts, persistent=False)
        self.names = nn.Embedding(sizes.num_classes, width)
        self.directions = nn.Linear(parts.shape[1], width, bias=False)
        # Where the classifier claims an abnormality: a cue says how far beyond it the evidence is.
        self.register_buffer("cuts", torch.zeros(sizes.num_classes))
        nn.init.normal_(self.names.weight, std=_FIRST_STD)
        nn.init.normal_(self.directions.weight, std=_FIRST_STD)
        self.of_kind = nn.Embedding(len(parts), width) if form.tokens == "by_kind" else None
        if self.of_kind is not None:
            nn.init.normal_(self.of_kind.weight, std=_FIRST_STD)

    def set_thresholds(self, thresholds: Tensor) -> None:
        """Take probabilities (A,) from which the classifier claims an abnormality."""
        self.cuts.copy_(cuts_of(thresholds))

    def forward(self, evidence: Tensor) -> Tensor:
        """Embed what is known."""
        presence = evidence[..., :1] - self.cuts[:, None]
        scaled = (presence / _LOGIT_SCALE).clamp(-_LARGEST, _LARGEST)
        values = 2 * torch.sigmoid(evidence[..., 1:]) - 1
        if self.form.values == "likeliest":
            values = likeliest(evidence[..., 1:], self.kinds)
        features = torch.cat([2 * torch.sigmoid(presence) - 1, scaled, values], dim=-1)
        known = torch.nan_to_num(features, nan=0.0).to(self.directions.weight.dtype)
        moved: Tensor = self.directions(known[:, :, None] * self.parts)  # (B, A, P, E)
        tokens = self.names.weight[:, None] + moved
        if self.of_kind is not None:
            tokens = tokens + self.of_kind.weight
        return tokens.flatten(1, 2)


class CueReadout(nn.Module):
    """Text (B, T, E) behind the last layer, with what it reads from cue tokens (B, A * P, E)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        nn.init.normal_(self.out.weight, std=_FIRST_READ_STD)
        nn.init.zeros_(self.out.bias)

    def forward(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Add what each position reads; none depends on another."""
        cues = self.norm(tokens)
        parts = [self.query(hidden), self.key(cues), self.value(cues)]
        split = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts]
        read = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        added: Tensor = self.out(read)
        return hidden + added


def cuts_of(thresholds: Tensor) -> Tensor:
    """Turn the probabilities from which something is claimed into logits, finite at 0 and 1 too."""
    return torch.logit(thresholds, eps=1e-4)


def likeliest(logits: Tensor, kinds: Sequence[int]) -> Tensor:
    """Say 1 or -1 of every value (..., V), and 0 of a kind of which nothing is known."""
    found = []
    for own in logits.split(list(kinds), dim=-1):
        highest = own.amax(dim=-1, keepdim=True)
        chosen = (own == highest) | (own > 0)
        is_known = highest > own.amin(dim=-1, keepdim=True)  # nothing is above NaN
        found.append(torch.where(is_known, 2.0 * chosen - 1.0, 0.0))
    return torch.cat([*found, logits[..., :0]], dim=-1)


def shifted(evidence: Tensor, shift: float) -> Tensor:
    """Add to every presence: above 0, reports claim more; below, less."""
    added = torch.zeros_like(evidence)
    added[..., 0] = shift
    return evidence + added
