"""CT-RATE v2 and ReXGroundingCT from the hub: first the tables, then only the volumes they name.

The repository has more than 150,000 files and is never listed. Volumes on the lists of head and
neck CTs, and those documented as broken or missing, are not fetched, nor are anatomy masks of cases
that get no label map.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from uvlm import store
from uvlm.config import CtRateConfig, MappedCases
from uvlm.data.cases import gets_label_map
from uvlm.data.sets.ct_rate import layout
from uvlm.data.sets.ct_rate.cases import MASKS, CtRateLayout
from uvlm.data.sets.ct_rate.layout import PARTS, Part, VolumeId, parse_id
from uvlm.data.sets.ct_rate.rexgrounding import TRAIN, GroundedVolume, read_grounding
from uvlm.data.sets.ct_rate.survey import survey_of
from uvlm.data.sets.ct_rate.tables import (
    read_labels,
    read_metadata,
    read_no_chest,
    read_reports,
)
from uvlm.data.sets.dataset import Label
from uvlm.data.sets.hub import Hub, Snapshot
from uvlm.data.sets.lesion_set import IN_THE_PAPER
from uvlm.data.sets.selection import NO_CHEST, Selection, choose, documented, excluded_by_user
from uvlm.data.sets.survey import Survey
from uvlm.errors import DataError
from uvlm.seeding import unit_interval
from uvlm.store import CaseProgress, Row


@dataclass(frozen=True)
class CtRate(CtRateLayout):
    """The chest data set."""

    config: CtRateConfig
    seed: int
    hub: Hub = field(default_factory=Hub)
    mapped: MappedCases = "all"
    facts: ClassVar = {"findings_masks_that_teach_in_the_paper": IN_THE_PAPER["ct_rate"]}
    masks: ClassVar = MASKS

    def for_label_maps(self, cases: MappedCases) -> CtRate:
        """Fetch anatomy masks for these cases only."""
        return replace(self, mapped=cases)

    def fetch(
        self, manifest: Path, label: Label, progress: CaseProgress | None = None, code: str = ""
    ) -> None:
        """Fetch tables, volumes and masks."""
        chest = Snapshot.of(self.hub, layout.CT_RATE_REPO, self.config.revision, layout.CT_RATE)
        tables = [path for part in PARTS for path in part[1:]]
        rows = _rows(chest, tables, "CT-RATE tables", progress)
        lesions = self._lesion_tables(progress) if self.config.findings_masks else None
        drawn = lesions.drawn() if lesions else set()
        wanted, selection = self._select(chest, drawn)
        flags = _judge(chest, wanted)
        drawn_on = lesions.masks(wanted, progress) if lesions else {}
        left = self._left_on_hub(wanted, drawn_on)
        rows += _rows(chest, [v.volume for v in wanted], "CT-RATE volumes", progress, left)
        if self.config.anatomy_masks:
            masks = [v.anatomy_mask for v in wanted if self._is_mapped(v.case_id, drawn, flags)]
            rows += _rows(chest, masks, "CT-RATE anatomy masks", progress)
        if lesions:
            rows += lesions.rows
            rows += lesions.snapshot.rows(drawn_on.values(), "ReXGroundingCT masks", progress)
        store.write_manifest(manifest, [*rows, selection.keep()])

    def _left_on_hub(self, wanted: Sequence[VolumeId], annotated: Collection[str]) -> list[str]:
        """List the volumes that `keep_raw` does not keep on disk."""
        match self.config.keep_raw:
            case "all":
                return []
            case "annotated":
                return [v.volume for v in wanted if v.case_id not in annotated]
        return [v.volume for v in wanted]

    def survey(self, progress: CaseProgress | None = None) -> Survey:
        """Fetch the tables, choose the volumes as `fetch` does, and ask for the sizes of some."""
        chest = Snapshot.of(self.hub, layout.CT_RATE_REPO, self.config.revision, layout.CT_RATE)
        _rows(chest, [path for part in PARTS for path in part[1:]], "CT-RATE tables", progress)
        lesions = self._lesion_tables(progress) if self.config.findings_masks else None
        drawn = lesions.drawn() if lesions else set()
        wanted, _ = self._select(chest, drawn)
        flags = _judge(chest, wanted)
        masks = {}
        if self.config.anatomy_masks:
            mapped = [v for v in wanted if self._is_mapped(v.case_id, drawn, flags)]
            masks["anatomy masks"] = chest, [v.anatomy_mask for v in mapped]
        if lesions:
            paths = [v.findings_mask for v in wanted if v.case_id in drawn]
            # Those of the test part may be withheld.
            inside = [_inside(lesions.snapshot, path) for path in paths]
            masks["findings masks"] = lesions.snapshot, lesions.snapshot.those_there(inside)
        return survey_of(chest, wanted, drawn, flags, masks)

    def _lesion_tables(self, progress: CaseProgress | None) -> _Lesions:
        """Fetch and read ReXGroundingCT's table."""
        revision = self.config.rexgrounding_revision
        snapshot = Snapshot.of(self.hub, layout.REX_REPO, revision, layout.REX)
        rows = _rows(snapshot, [layout.GROUNDING], "ReXGroundingCT table", progress)
        return _Lesions(snapshot, rows, read_grounding(_path(snapshot, layout.GROUNDING)))

    def _is_mapped(
        self, case: str, drawn: Collection[str], flags: Mapping[str, Sequence[int]]
    ) -> bool:
        """Whether a case can get a label map; without flags the index will refuse it."""
        if self.mapped == "all":
            return True
        return case in flags and gets_label_map(self.mapped, case in drawn, flags[case])

    def _select(self, chest: Snapshot, drawn: Collection[str]) -> tuple[list[VolumeId], Selection]:
        """Choose volumes from the tables, by patient; `drawn` are those with findings masks."""
        excluded = dict(documented("ct_rate"))
        volumes: list[VolumeId] = []
        for part in PARTS:
            excluded |= dict.fromkeys(read_no_chest(_path(chest, part.no_chest)), NO_CHEST)
            volumes += _volumes(chest, part)
        excluded |= excluded_by_user(self.config, {v.case_id: _names(v) for v in volumes})
        patients = self._patients(volumes)
        wanted = [v for v in volumes if v.patient_id in patients and v.case_id not in excluded]
        if self.config.reconstructions != "all":
            preferred = drawn if self.config.reconstructions == "annotated_first" else ()
            wanted = _one_a_scan(wanted, preferred)
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

    def drawn(self) -> set[str]:
        """Name the volumes whose findings masks teach or, in the test part, serve as references."""
        test = PARTS[1].prefix
        return {
            entry.case_id
            for entry in self.entries
            if entry.categories and (entry.split == TRAIN or entry.case_id.startswith(test))
        }

    def masks(self, wanted: Sequence[VolumeId], progress: CaseProgress | None) -> dict[str, str]:
        """Find the mask of each wanted volume; those of a held-out part may be withheld."""
        drawn = {entry.case_id: entry.split for entry in self.entries if entry.categories}
        by_case = {v.case_id: _inside(self.snapshot, v.findings_mask) for v in wanted}
        masks = {case: path for case, path in by_case.items() if case in drawn}
        held_out = [path for case, path in masks.items() if drawn[case] != TRAIN]
        there = set(self.snapshot.those_there(held_out, progress))
        return {c: path for c, path in masks.items() if drawn[c] == TRAIN or path in there}


def _judge(chest: Snapshot, wanted: Sequence[VolumeId]) -> dict[str, tuple[int, ...]]:
    """Read the tables that choose no volume: a broken one must not wait for the last of them.

    Returns:
        The flags of each volume that has all of them.
    """
    flags: dict[str, tuple[int, ...]] = {}
    for part in PARTS:
        read_metadata(_path(chest, part.metadata))
        flags |= {row.case_id: row.flags for row in read_labels(_path(chest, part.labels))[0]}
    if wanted and flags.keys().isdisjoint(volume.case_id for volume in wanted):
        fact = f"none of the {len(wanted)} wanted volumes has a row with all labels"
        raise DataError(_path(chest, PARTS[0].labels), fact, "get the tables of labels again")
    return flags


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


def _one_a_scan(volumes: Sequence[VolumeId], preferred: Collection[str]) -> list[VolumeId]:
    """Keep one volume of each scan: the first that is preferred, or else the first."""
    chosen: dict[str, VolumeId] = {}
    for volume in sorted(volumes, key=lambda v: v.case_id not in preferred):
        chosen.setdefault(volume.scan_id, volume)
    return [volume for volume in volumes if chosen[volume.scan_id] == volume]


def _names(volume: VolumeId) -> list[str]:
    """List every name that `exclude` may use for a volume."""
    paths = (volume.volume, volume.anatomy_mask, volume.findings_mask)
    inside = [path.partition("/")[2] for path in paths]
    return [volume.case_id, volume.scan_id, volume.patient_id, *inside]


def _path(snapshot: Snapshot, path: str) -> Path:
    return snapshot.folder.parent / path
