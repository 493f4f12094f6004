"""CT-RATE and ReXGroundingCT as cases: tables, masks and volumes, joined by name.

Phantoms use the same layout, with airway and vessel masks beside it:
phantom_masks/{airway,vessel}/train_1_a_1.nii.gz.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from uvlm.data.cases import Case
from uvlm.data.sets.ct_rate import layout, tables
from uvlm.data.sets.ct_rate.layout import PARTS, id_of, parse_id
from uvlm.data.sets.ct_rate.rexgrounding import read_grounding
from uvlm.data.sets.dataset import DataSet, Files, Masks, column_by_table, table_path
from uvlm.data.sets.selection import EXCLUSIONS, NO_CHEST, Selection, read_selection
from uvlm.store import Refusal, Row
from uvlm.tables import BadRow
from uvlm.text.sections import report_of_columns


@dataclass
class _Tables:
    """What the tables say about each volume id; in lists, because an id may be repeated."""

    reports: dict[str, list[tables.ReportRow]] = field(default_factory=lambda: defaultdict(list))
    labels: dict[str, list[tables.LabelRow]] = field(default_factory=lambda: defaultdict(list))
    bad: dict[str, BadRow] = field(default_factory=dict)
    metadata: set[str] = field(default_factory=set)
    no_chest: set[str] = field(default_factory=set)
    grounding: dict[str, dict[str, str]] = field(default_factory=dict)
    selection: Selection = field(default_factory=Selection)


class CtRateLayout(DataSet):
    """A data set in CT-RATE's layout, wherever it came from."""

    def cases(self, files: Files) -> tuple[list[Case], list[Refusal]]:
        """Join the tables with the volumes; every volume id of any table ends up in one place.

        CT-RATE's training part is the split "train", its validation part the split "test".
        """
        known = _read_tables(files)
        volumes = {id_of(path): row for path, row in files.items() if layout.is_volume(path)}
        named = {*volumes, *known.reports, *known.labels, *known.bad, *known.metadata}
        ends = [_join(case_id, volumes.get(case_id), known, files) for case_id in sorted(named)]
        cases = [end for end in ends if isinstance(end, Case)]
        return cases, [end for end in ends if isinstance(end, Refusal)]

    def rows_by_table(self, files: Files) -> dict[str, list[str]]:
        """List the case of every row of every table, and of every volume file."""
        volumes = [path for path in files if "_fixed/" in path and "/ts_seg/" not in path]
        named = {"volume files": volumes} | column_by_table(files, "VolumeName")
        return {table: [id_of(name) for name in names] for table, names in named.items()}

    def lesion_parts(self, files: Files) -> dict[str, str]:
        """Map each volume of ReXGroundingCT to its part."""
        if layout.GROUNDING not in files:
            return {}
        entries = read_grounding(table_path(files, layout.GROUNDING))
        return {entry.case_id: entry.split for entry in entries}


def masks_of(case: Case, kind: str) -> dict[int, str]:
    """Find the one file that holds all ids of a kind."""
    return {0: mask_path(case, dict(MASKS.names)[kind])}


def mask_path(case: Case, kind: str) -> str:
    """Find the published mask of a case (total, airway, vessel), relative to the store."""
    name = parse_id(case.case_id)
    assert name is not None  # any other name is refused by `_join`
    return case.volume.partition(layout.DATASET)[0] + name.masks[kind]


MASKS: Final = Masks(
    "ct_rate_masks",
    "ts_seg/ts_total",
    "CC-BY-NC-SA-4.0",
    masks_of,
    (("anatomy", "total"), ("airway", "airway"), ("vessel", "vessel")),
)


def _join(case_id: str, volume: Row | None, known: _Tables, files: Files) -> Case | Refusal:
    name = parse_id(case_id)
    if name is None:
        return _refuse(case_id, "bad_id", "is not named split_patient_scan_reconstruction")
    excluded = NO_CHEST if case_id in known.no_chest else known.selection.reason(case_id)
    if excluded:
        return _refuse(case_id, excluded, EXCLUSIONS[excluded])
    rows = _only_rows(case_id, known)
    if isinstance(rows, Refusal):
        return rows
    if volume is None:
        return _refuse(case_id, "missing_file", "has a report but no volume")
    report = report_of_columns(rows[0].findings, rows[0].impression)
    if report.is_empty:
        return _refuse(case_id, "empty_report", "has neither findings nor impression")
    findings_mask = files.get(name.findings_mask)
    return Case(
        case_id=case_id,
        scan_id=name.scan_id,
        patient_id=name.patient_id,
        split="train" if name.part == "train" else "test",
        volume=volume.path,
        findings_mask=findings_mask.path if findings_mask else None,
        finding_categories=known.grounding.get(case_id, {}) if findings_mask else {},
        abnormalities=rows[1].flags,
        findings=report.findings,
        impression=report.impression,
        sha256=volume.sha256,
        mask_sha256={k: files[path].sha256 for k, path in name.masks.items() if path in files},
        source=volume.source,
    )


def _only_rows(case_id: str, known: _Tables) -> tuple[tables.ReportRow, tables.LabelRow] | Refusal:
    """Find the one report and the one row of labels of a volume."""
    if bad := known.bad.get(case_id):
        return _refuse(case_id, bad.reason, bad.fact)
    reports, labels = known.reports.get(case_id, []), known.labels.get(case_id, [])
    places_by_table = {"reports": [r.place for r in reports], "labels": [r.place for r in labels]}
    for table, places in places_by_table.items():
        if len(places) != 1:
            fact = f"has {len(places)} rows in the {table} table"
            reason = "duplicate_id" if places else f"no_{table}"
            return _refuse(case_id, reason, f"{fact}: {', '.join(places)}" if places else fact)
    return reports[0], labels[0]


def _refuse(case_id: str, reason: str, fact: str) -> Refusal:
    remedy = "" if reason in EXCLUSIONS else "correct the tables or leave the volume out"
    return Refusal(case_id, f"{case_id}{layout.SUFFIX}", reason, fact, remedy)


def _read_tables(files: Files) -> _Tables:
    found = _Tables(selection=read_selection(files))
    for part in PARTS:
        for report in tables.read_reports(table_path(files, part.reports)):
            found.reports[report.case_id].append(report)
        labels, bad = tables.read_labels(table_path(files, part.labels))
        for flags in labels:
            found.labels[flags.case_id].append(flags)
        found.bad |= {row.case_id: row for row in bad}
        if part.metadata in files:
            known, unusable = tables.read_metadata(table_path(files, part.metadata))
            # Only the names count: the geometry is read from the volumes themselves.
            found.metadata |= {row.case_id for row in known} | {row.case_id for row in unusable}
        if part.no_chest in files:
            found.no_chest |= tables.read_no_chest(table_path(files, part.no_chest))
    if layout.GROUNDING in files:
        volumes = read_grounding(table_path(files, layout.GROUNDING))
        found.grounding = {volume.case_id: volume.categories for volume in volumes}
    return found
