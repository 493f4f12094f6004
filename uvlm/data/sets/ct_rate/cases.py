"""CT-RATE and ReXGroundingCT: tables, paths and names to cases.

Phantoms come in the same layout, with airway and vessel masks beside it:
phantom_masks/{airway,vessel}/train_1_a_1.nii.gz.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from uvlm.data.cases import Case
from uvlm.data.sets.ct_rate import layout
from uvlm.data.sets.ct_rate.layout import PARTS, id_of, parse_id
from uvlm.data.sets.ct_rate.rexgrounding import read_grounding
from uvlm.data.sets.ct_rate.tables import (
    LabelRow,
    ReportRow,
    read_labels,
    read_metadata,
    read_no_chest,
    read_reports,
)
from uvlm.data.sets.dataset import DataSet, Files, Masks, column_by_table, table_path
from uvlm.data.sets.selection import EXCLUSIONS, NO_CHEST, Selection, read_selection
from uvlm.store import Refusal, Row
from uvlm.tables import BadRow, read_text
from uvlm.text.report import Report


@dataclass
class _Tables:
    """What the tables say about each volume id; lists, because ids may come more than once."""

    reports: dict[str, list[ReportRow]] = field(default_factory=lambda: defaultdict(list))
    labels: dict[str, list[LabelRow]] = field(default_factory=lambda: defaultdict(list))
    bad: dict[str, BadRow] = field(default_factory=dict)
    metadata: set[str] = field(default_factory=set)
    no_chest: set[str] = field(default_factory=set)
    grounding: dict[str, dict[str, str]] = field(default_factory=dict)
    selection: Selection = field(default_factory=Selection)


class CtRateLayout(DataSet):
    """What a set in CT-RATE's layout has to say, however it was got."""

    def cases(self, files: Files) -> tuple[list[Case], list[Refusal]]:
        """Join the tables with the volumes; every volume id of any table has one end.

        CT-RATE's training part is the split "train", its validation part the split "test".
        """
        tables = _read_tables(files)
        volumes = {id_of(path): row for path, row in files.items() if layout.is_volume(path)}
        named = {*volumes, *tables.reports, *tables.labels, *tables.bad, *tables.metadata}
        ends = [_join(case_id, volumes.get(case_id), tables, files) for case_id in sorted(named)]
        cases = [end for end in ends if isinstance(end, Case)]
        return cases, [end for end in ends if isinstance(end, Refusal)]

    def rows_by_table(self, files: Files) -> dict[str, list[str]]:
        """List what every row of every table and every volume file is called."""
        volumes = [path for path in files if "_fixed/" in path and "/ts_seg/" not in path]
        tables = {"volume files": volumes} | column_by_table(files, "VolumeName")
        return {table: [id_of(name) for name in names] for table, names in tables.items()}

    def lesion_parts(self, files: Files) -> dict[str, str]:
        """Say which part of ReXGroundingCT each of its volumes belongs to."""
        if layout.GROUNDING not in files:
            return {}
        parts = json.loads(read_text(table_path(files, layout.GROUNDING)))
        return {id_of(entry["name"]): part for part in parts for entry in parts[part]}


def masks_of(case: Case, kind: str) -> dict[int, str]:
    """Name the one file that holds all ids of a kind."""
    return {0: mask_path(case, dict(MASKS.names)[kind])}


def mask_path(case: Case, kind: str) -> str:
    """Say where the published mask of a case (total, airway, vessel) lies, below the store."""
    name = parse_id(case.case_id)
    assert name is not None  # another name makes no case
    return case.volume.partition(layout.DATASET)[0] + name.masks[kind]


MASKS: Final = Masks(
    "ct_rate_masks",
    "ts_seg/ts_total",
    "CC-BY-NC-SA-4.0",
    masks_of,
    (("anatomy", "total"), ("airway", "airway"), ("vessel", "vessel")),
)


def _join(case_id: str, volume: Row | None, tables: _Tables, files: Files) -> Case | Refusal:
    name = parse_id(case_id)
    if name is None:
        return _refuse(case_id, "bad_id", "is not named split_patient_scan_reconstruction")
    excluded = NO_CHEST if case_id in tables.no_chest else tables.selection.reason(case_id)
    if excluded:
        return _refuse(case_id, excluded, EXCLUSIONS[excluded])
    rows = _only_rows(case_id, tables)
    if isinstance(rows, Refusal):
        return rows
    if volume is None:
        return _refuse(case_id, "missing_file", "has a report but no volume")
    report = Report(rows[0].findings, rows[0].impression)
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
        finding_categories=tables.grounding.get(case_id, {}) if findings_mask else {},
        abnormalities=rows[1].flags,
        findings=report.findings,
        impression=report.impression,
        sha256=volume.sha256,
        mask_sha256={k: files[path].sha256 for k, path in name.masks.items() if path in files},
        source=volume.source,
    )


def _only_rows(case_id: str, tables: _Tables) -> tuple[ReportRow, LabelRow] | Refusal:
    """Find the one report and the one row of labels of a volume."""
    bad = tables.bad.get(case_id)
    reports, labels = tables.reports.get(case_id, []), tables.labels.get(case_id, [])
    if bad:
        return _refuse(case_id, bad.reason, bad.fact)
    places_by_table = {
        "reports": [row.place for row in reports],
        "labels": [row.place for row in labels],
    }
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
    tables = _Tables(selection=read_selection(files))
    for part in PARTS:
        for report in read_reports(table_path(files, part.reports)):
            tables.reports[report.case_id].append(report)
        labels, bad = read_labels(table_path(files, part.labels))
        for flags in labels:
            tables.labels[flags.case_id].append(flags)
        tables.bad |= {row.case_id: row for row in bad}
        if part.metadata in files:
            known, unusable = read_metadata(table_path(files, part.metadata))
            tables.metadata |= {row.case_id for row in known} | {row.case_id for row in unusable}
        if part.no_chest in files:
            tables.no_chest |= read_no_chest(table_path(files, part.no_chest))
    if layout.GROUNDING in files:
        volumes = read_grounding(table_path(files, layout.GROUNDING))
        tables.grounding = {volume.case_id: volume.categories for volume in volumes}
    return tables
