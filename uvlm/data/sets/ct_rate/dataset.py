"""CT-RATE v2 and ReXGroundingCT from the hub: first the tables, then only the volumes they name.

The repository has more than 150,000 files and is never listed. Volumes on the lists of head and
neck CTs, and those documented as broken or missing, are not fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from uvlm import store
from uvlm.config import CtRateConfig
from uvlm.data.sets.ct_rate import layout
from uvlm.data.sets.ct_rate.cases import MASKS, CtRateLayout
from uvlm.data.sets.ct_rate.layout import PARTS, Part, VolumeId, parse_id
from uvlm.data.sets.ct_rate.rexgrounding import TRAIN, GroundedVolume, read_grounding
from uvlm.data.sets.ct_rate.tables import (
    read_labels,
    read_metadata,
    read_no_chest,
    read_reports,
)
from uvlm.data.sets.dataset import Label
from uvlm.data.sets.hub import Hub, Snapshot
from uvlm.data.sets.selection import NO_CHEST, Selection, choose, documented, excluded_by_user
from uvlm.errors import DataError
from uvlm.seeding import unit_interval
from uvlm.store import CaseProgress, Row


@dataclass(frozen=True)
class CtRate(CtRateLayout):
    """The chest data set."""

    config: CtRateConfig
    seed: int
    hub: Hub = field(default_factory=Hub)
    # Of 2,992 training volumes, according to the paper.
    facts: ClassVar = {"findings_masks_that_teach_in_the_paper": 2628}
    masks: ClassVar = MASKS

    def fetch(
        self, manifest: Path, label: Label, progress: CaseProgress | None = None, code: str = ""
    ) -> None:
        """Fetch tables, volumes and masks."""
        chest = Snapshot.of(self.hub, layout.CT_RATE_REPO, self.config.revision, layout.CT_RATE)
        tables = [path for part in PARTS for path in part[1:]]
        rows = _rows(chest, tables, "CT-RATE tables", progress)
        wanted, selection = self._select(chest)
        _judge(chest, wanted)
        lesions = self._lesion_tables(progress) if self.config.findings_masks else None
        masks_by_case = lesions.masks(wanted, progress) if lesions else {}
        kept = {"all": {v.case_id for v in wanted}, "annotated": {*masks_by_case}, "none": set()}
        left = [v.volume for v in wanted if v.case_id not in kept[self.config.keep_raw]]
        rows += _rows(chest, [v.volume for v in wanted], "CT-RATE volumes", progress, left)
        if self.config.anatomy_masks:
            masks = [volume.anatomy_mask for volume in wanted]
            rows += _rows(chest, masks, "CT-RATE anatomy masks", progress)
        if lesions:
            paths = masks_by_case.values()
            rows += lesions.rows
            rows += lesions.snapshot.rows(paths, "ReXGroundingCT masks", progress)
        store.write_manifest(manifest, [*rows, selection.keep()])

    def _lesion_tables(self, progress: CaseProgress | None) -> _Lesions:
        """Fetch and read ReXGroundingCT's table."""
        revision = self.config.rexgrounding_revision
        snapshot = Snapshot.of(self.hub, layout.REX_REPO, revision, layout.REX)
        rows = _rows(snapshot, [layout.GROUNDING], "ReXGroundingCT table", progress)
        return _Lesions(snapshot, rows, read_grounding(_path(snapshot, layout.GROUNDING)))

    def _select(self, chest: Snapshot) -> tuple[list[VolumeId], Selection]:
        """Choose volumes from the tables, by patient."""
        excluded = dict(documented("ct_rate"))
        volumes: list[VolumeId] = []
        for part in PARTS:
            excluded |= dict.fromkeys(read_no_chest(_path(chest, part.no_chest)), NO_CHEST)
            volumes += _volumes(chest, part)
        excluded |= excluded_by_user(self.config, {v.case_id: _names(v) for v in volumes})
        patients = self._patients(volumes)
        wanted = [v for v in volumes if v.patient_id in patients and v.case_id not in excluded]
        if self.config.reconstructions == "first":
            # Volumes are sorted: read backwards, the first reconstruction of a scan is kept last.
            wanted = list({v.scan_id: v for v in reversed(wanted)}.values())
        return wanted, Selection(frozenset(v.case_id for v in wanted), excluded)

    def _patients(self, volumes: Sequence[VolumeId]) -> set[str]:
        """Choose the patients of each part, in an order that depends only on the seed."""
        chosen: set[str] = set()
        choices = {"train": self.config.train, "test": self.config.test}
        for part, (name, choice) in zip(PARTS, choices.items(), strict=True):
            patients = {v.patient_id for v in volumes if v.part == part.prefix}
            order = sorted(patients, key=lambda p: unit_interval(self.seed, "download", p))
            chosen |= choose(order, choice, f"download.ct_rate.{name}")
        return chosen


@dataclass(frozen=True)
class _Lesions:
    """ReXGroundingCT: the commit, its table as fetched, and what the table says."""

    snapshot: Snapshot
    rows: list[Row]
    entries: list[GroundedVolume]

    def masks(self, wanted: Sequence[VolumeId], progress: CaseProgress | None) -> dict[str, str]:
        """Find the mask of each wanted volume; those of a held-out part may be withheld."""
        drawn = {entry.case_id: entry.split for entry in self.entries if entry.categories}
        by_case = {v.case_id: _inside(self.snapshot, v.findings_mask) for v in wanted}
        masks = {case: path for case, path in by_case.items() if case in drawn}
        held_out = [path for case, path in masks.items() if drawn[case] != TRAIN]
        there = set(self.snapshot.those_there(held_out, progress))
        return {c: path for c, path in masks.items() if drawn[c] == TRAIN or path in there}


def _judge(chest: Snapshot, wanted: Sequence[VolumeId]) -> None:
    """Read the tables that choose no volume: a broken one must not wait for the last of them."""
    labelled: set[str] = set()
    for part in PARTS:
        read_metadata(_path(chest, part.metadata))
        labelled.update(row.case_id for row in read_labels(_path(chest, part.labels))[0])
    if wanted and labelled.isdisjoint(volume.case_id for volume in wanted):
        fact = f"none of the {len(wanted)} wanted volumes has a row with all labels"
        raise DataError(_path(chest, PARTS[0].labels), fact, "get the tables of labels again")


def _rows(
    snapshot: Snapshot,
    paths: Sequence[str],
    description: str,
    progress: CaseProgress | None,
    left: Sequence[str] = (),
) -> list[Row]:
    """Fetch paths of the data set but those that are `left` on the hub."""
    inside, on_hub = ([_inside(snapshot, p) for p in some] for some in (paths, left))
    return snapshot.rows(inside, description, progress, frozenset(on_hub))


def _inside(snapshot: Snapshot, path: str) -> str:
    """Strip the first folder of a path, which is not part of the repository."""
    return path.removeprefix(f"{snapshot.folder.name}/")


def _volumes(chest: Snapshot, part: Part) -> list[VolumeId]:
    """List the volumes named by a part's reports table, each once; no others have a report."""
    names = {row.case_id for row in read_reports(_path(chest, part.reports))}
    found = (parse_id(name) for name in names)
    wanted = [v for v in found if v is not None and v.part == part.prefix]
    return sorted(wanted, key=lambda v: (v.patient, v.scan, v.reconstruction))


def _names(volume: VolumeId) -> list[str]:
    """List every name that `exclude` may use for a volume."""
    paths = (volume.volume, volume.anatomy_mask, volume.findings_mask)
    inside = [path.partition("/")[2] for path in paths]
    return [volume.case_id, volume.scan_id, volume.patient_id, *inside]


def _path(snapshot: Snapshot, path: str) -> Path:
    return snapshot.folder.parent / path
