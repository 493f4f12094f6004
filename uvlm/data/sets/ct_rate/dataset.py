"""CT-RATE v2 and ReXGroundingCT from the hub: the tables first, then exactly the volumes they name.

The repository has more than 150,000 files and is never listed. Volumes on the lists of head and
neck CTs, and those documented as broken or missing, are not fetched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from uvlm import store
from uvlm.config import CtRateConfig
from uvlm.data.sets.ct_rate import layout
from uvlm.data.sets.ct_rate.cases import MASKS, CtRateLayout
from uvlm.data.sets.ct_rate.layout import PARTS, Part, VolumeId, parse_id
from uvlm.data.sets.ct_rate.rexgrounding import read_grounding
from uvlm.data.sets.ct_rate.tables import read_no_chest, read_reports
from uvlm.data.sets.dataset import Label
from uvlm.data.sets.hub import Hub, Snapshot
from uvlm.data.sets.selection import NO_CHEST, Selection, choose, documented, excluded_by_user
from uvlm.seeding import unit_interval
from uvlm.store import CaseProgress, Row


@dataclass(frozen=True)
class CtRate(CtRateLayout):
    """The chest data set."""

    config: CtRateConfig
    seed: int
    hub: Hub = field(default_factory=Hub)
    # Of the 2,992 training volumes, says the paper.
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
        rows += _rows(chest, [v.volume for v in wanted], "CT-RATE volumes", progress)
        if self.config.anatomy_masks:
            masks = [volume.anatomy_mask for volume in wanted]
            rows += _rows(chest, masks, "CT-RATE anatomy masks", progress)
        if self.config.findings_masks:
            rows += self._lesions(wanted, progress)
        store.write_manifest(manifest, [*rows, selection.keep()])

    def _lesions(self, wanted: Sequence[VolumeId], progress: CaseProgress | None) -> list[Row]:
        """Fetch ReXGroundingCT's table and the masks of wanted volumes."""
        revision = self.config.rexgrounding_revision
        lesions = Snapshot.of(self.hub, layout.REX_REPO, revision, layout.REX)
        table = _rows(lesions, [layout.GROUNDING], "ReXGroundingCT table", progress)
        entries = read_grounding(_path(lesions, layout.GROUNDING))
        drawn = {entry.case_id for entry in entries if entry.categories}
        masks = [volume.findings_mask for volume in wanted if volume.case_id in drawn]
        return table + _rows(lesions, masks, "ReXGroundingCT masks", progress)

    def _select(self, chest: Snapshot) -> tuple[list[VolumeId], Selection]:
        """Choose volumes of the tables, by patient."""
        excluded = dict(documented("ct_rate"))
        volumes: list[VolumeId] = []
        for part in PARTS:
            no_chest = read_no_chest(_path(chest, part.no_chest))
            excluded |= dict.fromkeys(no_chest, NO_CHEST)
            volumes += _volumes(chest, part)
        excluded |= excluded_by_user(self.config, {v.case_id: _names(v) for v in volumes})
        patients = self._patients(volumes)
        wanted = [v for v in volumes if v.patient_id in patients and v.case_id not in excluded]
        if self.config.reconstructions == "first":
            wanted = _first_reconstructions(wanted)
        return wanted, Selection(frozenset(v.case_id for v in wanted), excluded)

    def _patients(self, volumes: Sequence[VolumeId]) -> set[str]:
        """Choose patients of each part in an order that only the seed decides."""
        chosen: set[str] = set()
        for part, choice in ((PARTS[0], self.config.train), (PARTS[1], self.config.test)):
            names = {v.patient_id for v in volumes if v.part == part.prefix}
            order = sorted(names, key=lambda name: unit_interval(self.seed, "download", name))
            name = "train" if part is PARTS[0] else "test"
            chosen |= choose(order, choice, f"download.ct_rate.{name}")
        return chosen


def _rows(
    snapshot: Snapshot, paths: Sequence[str], description: str, progress: CaseProgress | None
) -> list[Row]:
    """Fetch paths of the data set, whose first folder is the repository's name here."""
    inside = [path.removeprefix(f"{snapshot.folder.name}/") for path in paths]
    return snapshot.rows(inside, description, progress)


def _volumes(chest: Snapshot, part: Part) -> list[VolumeId]:
    """List the volumes that the reports table of a part names, each once; others have no report."""
    names = {row.case_id for row in read_reports(_path(chest, part.reports))}
    found = (parse_id(name) for name in names)
    wanted = [v for v in found if v is not None and v.part == part.prefix]
    return sorted(wanted, key=lambda v: (v.patient, v.scan, v.reconstruction))


def _first_reconstructions(volumes: Sequence[VolumeId]) -> list[VolumeId]:
    by_scan: dict[str, list[VolumeId]] = defaultdict(list)
    for volume in volumes:
        by_scan[volume.scan_id].append(volume)
    return [min(scan, key=lambda volume: volume.reconstruction) for scan in by_scan.values()]


def _names(volume: VolumeId) -> list[str]:
    """List all that a person may call a volume in `exclude`."""
    paths = (volume.volume, volume.anatomy_mask, volume.findings_mask)
    inside = [path.partition("/")[2] for path in paths]
    return [volume.case_id, volume.scan_id, volume.patient_id, *inside]


def _path(snapshot: Snapshot, path: str) -> Path:
    return snapshot.folder.parent / path
