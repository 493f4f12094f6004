"""Split by patient: validation is carved out of training, the official test part stays."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from uvlm.data.cases import SPLITS, Case
from uvlm.errors import DataError
from uvlm.seeding import unit_interval
from uvlm.text.abnormalities import names_of

_MOST_SALTS: Final = 64


def carve_validation(cases: Sequence[Case], seed: int, fraction: float) -> list[Case]:
    """Move a share of the training patients to "val", chosen by the hash of their name.

    Successive salts are tried until every abnormality has positives in all splits; if none achieves
    that, the salt that leaves the fewest gaps is taken.

    Raises:
        DataError: a split would be empty.
    """
    patients = sorted({case.patient_id for case in cases if case.split == "train"})
    num_val = max(1, round(fraction * len(patients)))
    result, fewest = list(cases), math.inf
    for salt in range(_MOST_SALTS):
        ranked = sorted(patients, key=lambda patient: unit_interval(seed, "val", salt, patient))
        chosen = frozenset(ranked[:num_val])
        carved = [_moved(case, chosen) for case in cases]
        gaps = len(missing_positives(carved))
        if gaps < fewest:
            result, fewest = carved, gaps
        if gaps == 0:
            break
    sizes = Counter(case.split for case in result)
    for split in SPLITS:
        if not sizes[split]:
            fact = f"the {split} split is empty ({dict(sizes)})"
            raise DataError("index", fact, "add patients or change index.val_fraction")
    return result


def _moved(case: Case, chosen: frozenset[str]) -> Case:
    """Move a training case of a chosen patient; a test case stays, so that the leak is found."""
    is_moved = case.split == "train" and case.patient_id in chosen
    return replace(case, split="val") if is_moved else case


def missing_positives(cases: Iterable[Case]) -> list[str]:
    """List "abnormality in split" for every abnormality without a positive in a split."""
    positives: Counter[tuple[str, str]] = Counter()
    names: tuple[str, ...] = ()
    for case in cases:
        names = names_of(case.abnormalities)
        for name, flag in zip(names, case.abnormalities, strict=True):
            positives[name, case.split] += flag
    return [
        f"{name} in {split}" for name in names for split in SPLITS if not positives[name, split]
    ]
