"""Cues that the classifier did not give: controls, to see what cues do to the reports.

    oracle     what is true of a case, as sure as the classifier commonly is when it says the same
    shuffled   the evidence of a case of another patient
    unknown    no evidence at all

An oracle knows the answers, so its reports measure how far the decoder follows its cues, and
nothing that a model can reach. Where the classifier already says what is true, and where nothing is
known to be true (a side that no report tells), its own evidence stays: cues that are unknown beside
known ones would be of a kind that training rarely shows.

N cases, A abnormalities, F = 1 + V numbers of evidence: presence, then values of attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import torch
from torch import Tensor

Control = Literal["own", "oracle", "shuffled", "unknown"]
CONTROLS: Final[tuple[Control, ...]] = ("own", "oracle", "shuffled", "unknown")


def unknown(evidence: Tensor) -> Tensor:
    """Forget all evidence, (N, A, F)."""
    return torch.full_like(evidence, torch.nan)


def shuffled(evidence: Tensor, others: Sequence[int]) -> Tensor:
    """Give each case the evidence of another, by its number."""
    return evidence[list(others)]


def oracle(evidence: Tensor, truth: Tensor, cuts: Tensor) -> Tensor:
    """Let evidence say what is true.

    Args:
        evidence: of the classifier, (N, A, F) logits.
        truth: (N, A, F), 1 true, 0 not, -1 not known.
        cuts: (A,) logits of presence above which the classifier claims; values are cut at 0.
    """
    middle = torch.zeros_like(evidence[0])
    middle[:, 0] = cuts
    margin = evidence - middle
    says, is_true = margin > 0, truth > 0
    wanted = torch.where(is_true, _commonly(margin, says), -_commonly(margin, ~says))
    keeps = (truth < 0) | (says == is_true)
    return torch.where(keeps, evidence, middle + wanted)


def _commonly(margin: Tensor, chosen: Tensor) -> Tensor:
    """Return the median size of the chosen margins over the cases, (A, F); of all if none is."""
    size = margin.abs()
    found = size.where(chosen, torch.full_like(size, torch.nan)).nanmedian(dim=0).values
    return found.where(~found.isnan(), size.median(dim=0).values)
