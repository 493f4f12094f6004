"""Which findings masks segmentation may be trained on.

ReXGroundingCT takes volumes from both parts of CT-RATE and has parts of its own. A mask is trained
on if it belongs to ReXGroundingCT's training part and its patient is not a test patient here; the
masks of test patients stay as references. Masks of ReXGroundingCT's own val and test parts are
withheld, so that a model can still be scored on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from uvlm.data.accounts import Account
from uvlm.data.cases import Case

_NAME: Final = "findings masks that teach"
# How many cases teach stage 1 in the paper, by source; of 2,992 in ReXGroundingCT's training part.
IN_THE_PAPER: Final[Mapping[str, int]] = {"ct_rate": 2628}


def withhold_masks(
    cases: Sequence[Case], parts: Mapping[str, str], refused: Mapping[str, str]
) -> tuple[list[Case], Account]:
    """Remove the masks that must not be trained on from the training cases.

    Args:
        cases: the index, already split.
        parts: the lesion set's own part, by case id.
        refused: the reason for each case that the index refused, by case id.

    Returns:
        The cases, and an account of every entry of the lesion set.
    """
    by_id = {case.case_id: case for case in cases}
    fate = {name: _fate(by_id.get(name), part, refused.get(name)) for name, part in parts.items()}
    withheld = {name for name, reason in fate.items() if reason and reason.startswith("its_")}
    kept = [_without_mask(case) if case.case_id in withheld else case for case in cases]
    return kept, Account.of(_NAME, parts, fate)


def _fate(case: Case | None, part: str, refused: str | None) -> str | None:
    """Say why a mask is not trained on; None if it is."""
    if case is None:
        return refused or "no_such_volume"
    if case.findings_mask is None:
        return "no_mask_file"
    if case.split == "test":
        return "test_patient"
    return None if part == "train" else f"its_own_{part}_part"


def _without_mask(case: Case) -> Case:
    digests = {kind: digest for kind, digest in case.mask_sha256.items() if kind != "findings"}
    return replace(case, findings_mask=None, finding_categories={}, mask_sha256=digests)
