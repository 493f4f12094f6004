"""Invented records of arms, small enough to be scored again by other means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uvlm.arm_record import ArmRecord, CaseResult, digits
from uvlm.text.abnormalities import ABNORMALITIES

NUM_CASES = 60
ROOT = Path(__file__).parents[3]


def flags(seed: int, share: float = 0.3) -> Any:
    return np.random.default_rng(seed).random((NUM_CASES, len(ABNORMALITIES))) < share


def mistaken(labels: Any, share: float, seed: int) -> Any:
    """Labels of which a share is turned round."""
    return labels ^ (np.random.default_rng(seed).random(labels.shape) < share)


def record(
    params: dict[str, Any],
    arm: str,
    seed: int,
    claimed: Any,
    labels: Any,
    bleu: float = 0.3,
    ngrams: Sequence[tuple[int, ...]] | None = None,
    **changes: Any,
) -> ArmRecord:
    cases = tuple(
        CaseResult(
            case_id=f"c{number}", patient_id=f"p{number // 2}",
            labels=digits(true), read=digits(true), claimed=digits(said),
            probabilities=tuple(0.2 + 0.6 * float(flag) for flag in said),
            ngrams=ngrams[number] if ngrams else None,
        )
        for number, (true, said) in enumerate(zip(labels, claimed, strict=True))
    )  # fmt: skip
    group, _, row = arm.rpartition("_")
    by_probability = group == "table4" or arm == "controls_labels"
    scored = "classification" if by_probability else "report"
    bleus = {f"bleu_{name}": bleu for name in (1, 2, 3, 4, "mean")}
    report = bleus | {"bleu_mean_ci": [bleu - 0.02, bleu + 0.02]}
    fields = {
        "table": group, "row": row, "arm": arm, "profile": "phantom", "seed": seed,
        "scored": scored, "key": "k" * 20, "params": params, "code": {}, "cases": cases,
        "inputs": {"data/manifests/index.jsonl": "0123456789abcdef"},
        "git": {"git.commit": "fedcba987654", "git.dirty": "false"}, "abnormalities": ABNORMALITIES,
        "metrics": {"report": report, "protocol": {"labeller": "phantom"}},
    }  # fmt: skip
    return ArmRecord.model_validate(fields | changes)
