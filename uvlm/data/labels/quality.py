"""The quality report of label maps: every case compared with plausible anatomy, none left out.

The facts are measured when the map is made and kept beside its array, so that new rules can be
applied to thousands of cases in a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uvlm.arrays import Ids
from uvlm.data.ct.grid_rules import is_on_grid
from uvlm.data.ct.io import read_label_map, read_volume
from uvlm.data.ct.volume import LabelMap, ReadError, Spacing, axis_order, to_canonical
from uvlm.data.label_scheme import Dataset, FineClasses, fine_classes
from uvlm.data.labels.measure import LabelFacts, measure
from uvlm.data.labels.merge import merge_anatomy
from uvlm.data.labels.regrid import onto_grid
from uvlm.data.labels.rules import RULES, Bodies, Flag, Plausible
from uvlm.errors import DataError
from uvlm.store import Row, read_manifest, read_note, resolve


@dataclass(frozen=True, eq=False)
class JudgedCase:
    """One label map: what was measured, and the rules it breaks."""

    case_id: str
    facts: LabelFacts
    flags: tuple[Flag, ...]

    @property
    def is_unlabelled(self) -> bool:
        """Whether no structure is labelled at all, as with the backend `none`."""
        return not self.facts.structures


def judge_label_maps(label_maps: Path, rules: Plausible) -> list[JudgedCase]:
    """Judge every label map of the manifest of the stage `label_maps`."""
    return [_judge(row, rules) for row in read_manifest(label_maps)]


def quality_report(judged: Sequence[JudgedCase], rules: Plausible) -> dict[str, Any]:
    """Count flags, list flagged cases, and return the range of every number over all cases."""
    flagged = [case for case in judged if case.flags]
    counts = Counter(rule for case in flagged for rule in {flag.rule for flag in case.flags})
    return {
        "rules": rules.bodies,
        "label_maps": len(judged),
        "unlabelled": sum(case.is_unlabelled for case in judged),
        "flagged": len(flagged),
        "flagged_by_rule": {rule: counts[rule] for rule in RULES},
        "structures": _structures(judged, rules),
        "overlaps": _overlaps(judged, rules),
        "flagged_cases": [
            {"case": case.case_id, "flags": [flag.to_json() for flag in case.flags]}
            for case in flagged
        ],
    }


@dataclass(frozen=True, eq=False)
class CheckedLabels:
    """A CT with its labels, in canonical order on the CT's grid."""

    judged: JudgedCase
    fine: FineClasses
    hu: np.ndarray[Any, np.dtype[Any]]
    ids: Ids
    spacing: Spacing
    regridded: bool


def check_labels(ct: Path, labels: Path, scheme: str, bodies: Bodies) -> CheckedLabels:
    """Judge the user's own label map against its CT.

    Args:
        ct: a file or a DICOM folder.
        labels: one id per voxel, on the CT's grid or another one.
        scheme: whose ids they are: `total` (TotalSegmentator), or the fine classes of `chest` or
            `abdomen`.
        bodies: whose anatomy they are compared with.

    Raises:
        ReadError: one of the files is refused, or the two do not overlap.
    """
    volume = to_canonical(read_volume(ct))
    drawn = read_label_map(labels)
    order = axis_order(drawn.affine)
    affine = order.canonical_affine(drawn.affine, drawn.array.shape)
    canonical = LabelMap(order.forward(drawn.array), affine)
    regridded = not is_on_grid(canonical, volume.array.shape, volume.affine)
    array = onto_grid(canonical, volume.array.shape, volume.affine, labels)
    dataset: Dataset = "abdomen" if scheme == "abdomen" else "chest"
    fine = fine_classes(dataset)
    ids = merge_anatomy({"anatomy": array}, ("anatomy",), fine) if scheme == "total" else array
    largest, last = int(ids.max()), len(fine.names) - 1
    if largest > last:
        fact = f"holds the id {largest}, the classes of {dataset} end at {last}"
        raise ReadError(labels, fact, "pass whose ids they are as --scheme", reason="class_ids")
    facts = measure(ids, volume.affine, fine.one_piece, (ids, volume.array), {})
    judged = JudgedCase(labels.name, facts, tuple(Plausible.of(bodies, fine).judge(facts)))
    return CheckedLabels(judged, fine, volume.array, ids, volume.spacing, regridded)


def _judge(row: Row, rules: Plausible) -> JudgedCase:
    note = read_note(resolve(row, "label_maps"))
    if note is None or "facts" not in note:
        again = "make it again with `dvc repro -f -s label_maps`"
        raise DataError(row.case, f"{row.path} has no measurements beside it", again)
    facts = LabelFacts.from_json(note["facts"])
    return JudgedCase(row.case, facts, tuple(rules.judge(facts)) if facts.structures else ())


def _structures(judged: Sequence[JudgedCase], rules: Plausible) -> list[dict[str, Any]]:
    """List the least, median and greatest volume of every structure, and what is plausible."""
    found = [(rules.find(case.facts), case.facts) for case in judged]
    rows = []
    for name in rules.ids:
        there = [(structures[name], facts) for structures, facts in found if name in structures]
        if there:
            volumes = [rules.volume(structure, facts) for structure, facts in there]
            least, median, most = (round(float(v), 5) for v in np.percentile(volumes, [0, 50, 100]))
            rows.append(
                {
                    "structure": name,
                    "cases": len(there),
                    "cut": sum(structure.is_cut for structure, _ in there),
                    "least": least,
                    "median": median,
                    "most": most,
                    "plausible": list(rules.document["structures"][name]["volume"]),
                }
            )
    return rows


def _overlaps(judged: Sequence[JudgedCase], rules: Plausible) -> list[dict[str, Any]]:
    """List, by pair of kinds, in how many cases and how far both claim the same voxels."""
    known = [case.facts.overlaps for case in judged]
    rows = []
    for pair in sorted({pair for overlaps in known for pair in overlaps}):
        shares = [overlaps[pair] for overlaps in known if pair in overlaps]
        rows.append(
            {
                "pair": pair,
                "cases": len(shares),
                "median": round(float(np.median(shares)), 4),
                "most": max(shares),
                "plausible": rules.document["most_overlap"].get(pair),
            }
        )
    return rows
