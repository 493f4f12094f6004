"""Splits by patient: validation is carved out of training, the official test part stays."""

from __future__ import annotations

from collections import Counter, defaultdict
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

    Successive salts are tried until every abnormality has positives in all splits; when none does
    that, the salt that leaves the fewest gaps is taken.

    Raises:
        DataError: a split would be empty.
    """
    patients = sorted({case.patient_id for case in cases if case.split == "train"})
    num_val = max(1, round(fraction * len(patients)))
    best: tuple[int, list[Case]] | None = None
    for salt in range(_MOST_SALTS):
        ranked = sorted(patients, key=lambda patient: unit_interval(seed, "val", salt, patient))
        chosen = set(ranked[:num_val])
        carved = [replace(c, split="val") if c.patient_id in chosen else c for c in cases]
        gaps = len(missing_positives(carved))
        if best is None or gaps < best[0]:
            best = gaps, carved
        if gaps == 0:
            break
    result = best[1] if best else list(cases)
    _check_not_empty(result)
    return result


def missing_positives(cases: Iterable[Case]) -> list[str]:
    """List "abnormality in split" for every abnormality that a split has no positive of."""
    positives: Counter[tuple[str, str]] = Counter()
    names: tuple[str, ...] = ()
    for case in cases:
        names = names_of(case.abnormalities)
        for name, flag in zip(names, case.abnormalities, strict=True):
            positives[name, case.split] += flag
    return [
        f"{name} in {split}" for name in names for split in SPLITS if not positives[name, split]
    ]


def audit_leaks(cases: Iterable[Case]) -> None:
    """Fail when a patient, a scan or the very same voxels occur in two splits."""
    splits: dict[tuple[str, str], set[str]] = defaultdict(set)
    holders: dict[tuple[str, str], list[str]] = defaultdict(list)
    for case in cases:
        facts = [("patient", case.patient_id), ("scan", case.scan_id)]
        for fact in [*facts, ("image", case.sha256)] if case.sha256 else facts:
            splits[fact].add(case.split)
            holders[fact].append(case.case_id)
    leaks = [fact for fact, found in splits.items() if len(found) > 1]
    if leaks:
        kind, name = leaks[0]
        raise DataError(
            "index",
            f"{len(leaks)} leaks between splits, the first: {kind} {name[:16]} is in "
            f"{' and '.join(sorted(splits[leaks[0]]))} ({', '.join(holders[leaks[0]])})",
            "leave one of them out",
        )


def _check_not_empty(cases: Sequence[Case]) -> None:
    sizes = Counter(case.split for case in cases)
    for split in SPLITS:
        if not sizes[split]:
            raise DataError(
                "index",
                f"the {split} split is empty ({dict(sizes)})",
                "give more patients or change index.val_fraction",
            )
