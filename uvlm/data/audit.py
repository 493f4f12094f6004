"""The audit before any training: every row accounted for, and nothing on two sides of a split.

Only here does everything come together: all images with their likenesses, the lesion set, and what
the tokenizer was fitted on. All trainings depend on the outcome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from uvlm.config import LabelMapsConfig, Params
from uvlm.data.accounts import Account
from uvlm.data.cases import Case, read_index, why_unmapped
from uvlm.data.leaks.fitted_on import read_fits
from uvlm.data.leaks.search import Use, find_leaks
from uvlm.data.sets.lesion_set import IN_THE_PAPER
from uvlm.files import write_json_atomic
from uvlm.store import Row, read_quarantine, rows_by_case

_TRAININGS: Final = "classification, reports"


def run(
    params: Params,
    *,
    index: Path,
    preprocess: Path,
    label_maps: Path,
    fitted: Sequence[Path],
    quarantine: Path,
    out: Path,
) -> dict[str, Any]:
    """Write the counts to `out`; refuse the data if there is a leak.

    Args:
        params: the sections `audit` and `label_maps`, and `download.source`.
        index: manifest of the cases.
        preprocess: manifest of the volumes, with their likenesses.
        label_maps: manifest of what segmentation learns from.
        fitted: folders that hold a fitted_on.json.
        quarantine: folder of what the stages refused.
        out: the JSON to write.

    Returns:
        What was written: `leaks`, `uses` by objective and split, `stage_1` (which cases it learns
        from, and how many the paper has), `nearest` (the smallest distance between two images on
        different sides), `accounts`.
    """
    cases, volumes, maps = read_index(index), rows_by_case(preprocess), rows_by_case(label_maps)
    uses = _uses(cases, volumes, maps)
    for folder in fitted:
        uses += read_fits(folder, cases)
    found = find_leaks(uses, params.audit.near_duplicate)
    found.check("what the objectives use")
    volume_account = _volume_account(cases, volumes, quarantine)
    map_account = _label_map_account(params.label_maps, cases, volumes, maps, quarantine)
    report = {
        "leaks": len(found.leaks),
        "uses": _count(uses),
        "stage_1": _stage_1(params, cases, maps),
        "nearest": {**found.margins, "refused_below": params.audit.near_duplicate},
        "accounts": [asdict(volume_account), asdict(map_account)],
    }
    write_json_atomic(out, report)
    return report


def _uses(cases: Sequence[Case], volumes: dict[str, Row], maps: dict[str, Row]) -> list[Use]:
    """List who uses which case: trainings every volume, segmentation those with a label map."""
    uses = []
    for case in cases:
        if row := volumes.get(case.case_id):
            objectives = [_TRAININGS]
            if case.case_id in maps:
                objectives += ["segmentation"] + ["lesion set"] * (case.findings_mask is not None)
            seen = row.sha256, str(row.extra["fingerprint"])
            uses += [Use(objective, case.split, case, *seen) for objective in objectives]
    return uses


def _stage_1(params: Params, cases: Sequence[Case], maps: dict[str, Row]) -> dict[str, Any]:
    """Count the label maps of each split, beside the number of the paper."""
    counts = Counter(str(case.split) for case in cases if case.case_id in maps)
    paper = IN_THE_PAPER.get(params.download.source)
    return {"cases": params.label_maps.cases, **counts, "in_the_paper": paper}


def _count(uses: Sequence[Use]) -> dict[str, dict[str, int]]:
    """Count the cases that each objective uses of each split."""
    counts: dict[str, Counter[str]] = {}
    for use in uses:
        counts.setdefault(use.objective, Counter())[use.split] += 1
    return {objective: dict(counter) for objective, counter in counts.items()}


def _volume_account(cases: Sequence[Case], volumes: dict[str, Row], quarantine: Path) -> Account:
    reasons = {r.case: r.reason for r in read_quarantine(quarantine / "preprocess.jsonl")}
    lost = Counter(reasons[c.case_id] for c in cases if c.case_id in reasons)
    return Account("volumes on the grid", len(cases), len(volumes), dict(sorted(lost.items())))


def _label_map_account(
    config: LabelMapsConfig,
    cases: Sequence[Case],
    volumes: dict[str, Row],
    maps: dict[str, Row],
    quarantine: Path,
) -> Account:
    names = [f"pseudo_label_{kind}" for kind in config.priority if kind != "lesion"]
    unlabelled = {r.case for n in names for r in read_quarantine(quarantine / f"{n}.jsonl")}
    refused = {r.case: r.reason for r in read_quarantine(quarantine / "label_maps.jsonl")}
    lost: Counter[str] = Counter()
    for case in cases:
        if case.case_id in maps:
            continue
        if case.case_id not in volumes:
            lost["no_volume"] += 1
        elif case.case_id in unlabelled:
            lost["no_pseudo_label"] += 1
        elif reason := why_unmapped(case, config):
            lost[reason] += 1
        elif case.case_id in refused:
            lost[refused[case.case_id]] += 1
    return Account("label maps", len(cases), len(maps), dict(sorted(lost.items())))
