"""CT-RATE and ReXGroundingCT: tables, paths and names to cases.

Names, paths and columns are in `sources`; phantoms come in the same layout, with airway and vessel
masks beside it: phantom_masks/{airway,vessel}/train_1_a_1.nii.gz.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeVar

from uvlm.data.cases import Case
from uvlm.data.sets.ct_rate.layout import (
    DATASET,
    GROUNDING,
    PARTS,
    SUFFIX,
    VolumeId,
    id_of,
    is_volume,
    parse_id,
)
from uvlm.data.sets.ct_rate.rexgrounding import read_grounding
from uvlm.data.sets.ct_rate.tables import (
    LabelRow,
    ReportRow,
    read_labels,
    read_metadata,
    read_no_chest,
    read_reports,
)
from uvlm.data.sets.selection import EXCLUSIONS, NO_CHEST, Selection, read_selection
from uvlm.errors import DataError
from uvlm.store import Refusal, Row, resolve
from uvlm.tables import BadRow
from uvlm.text.report import Report

MaskKind = Literal["total", "airway", "vessel"]
_KINDS: Final[tuple[MaskKind, ...]] = ("total", "airway", "vessel")
_RowOfCase = TypeVar("_RowOfCase", ReportRow, LabelRow)


@dataclass
class _Tables:
    """What the tables say about each volume id; lists, because ids may come more than once."""

    reports: dict[str, list[ReportRow]] = field(default_factory=dict)
    labels: dict[str, list[LabelRow]] = field(default_factory=dict)
    bad: dict[str, BadRow] = field(default_factory=dict)
    metadata: set[str] = field(default_factory=set)
    no_chest: set[str] = field(default_factory=set)
    grounding: dict[str, dict[str, str]] = field(default_factory=dict)
    selection: Selection = field(default_factory=Selection)


def read_cases(files: Mapping[str, Row]) -> tuple[list[Case], list[Refusal]]:
    """Join the tables with the volumes; every volume id of any table ends as a case or a refusal.

    A refusal whose reason is one of `exclusions.EXCLUSIONS` is by design, all others are faults.

    Args:
        files: the download manifest, by path inside the data set's root. A case of CT-RATE's
            training part has the split "train", one of its validation part the split "test".
    """
    tables = _read_tables(files)
    volumes = {id_of(path): row for path, row in files.items() if is_volume(path)}
    named = {*volumes, *tables.reports, *tables.labels, *tables.bad, *tables.metadata}
    cases, refusals = [], []
    for case_id in sorted(named):
        result = _join(case_id, volumes.get(case_id), tables, files)
        if isinstance(result, Case):
            cases.append(result)
        else:
            refusals.append(result)
    return cases, refusals


def mask_path(case: Case, kind: MaskKind) -> str:
    """Say where the published mask of a case lies, relative to the store."""
    root = case.volume.partition(DATASET)[0]
    return root + _mask_inside_root(case.case_id, kind)


def _join(
    case_id: str, volume: Row | None, tables: _Tables, files: Mapping[str, Row]
) -> Case | Refusal:
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
        mask_sha256=_mask_digests(name, files),
        source=volume.source,
    )


def _only_rows(case_id: str, tables: _Tables) -> tuple[ReportRow, LabelRow] | Refusal:
    """Find the one report and the one row of labels of a volume."""
    bad = tables.bad.get(case_id)
    reports, labels = tables.reports.get(case_id, []), tables.labels.get(case_id, [])
    if bad and not labels:
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
    return Refusal(case_id, f"{case_id}{SUFFIX}", reason, fact, remedy)


def _read_tables(files: Mapping[str, Row]) -> _Tables:
    tables = _Tables(selection=read_selection(files))
    for part in PARTS:
        _collect(tables.reports, read_reports(_table(files, part.reports)))
        labels, bad = read_labels(_table(files, part.labels))
        _collect(tables.labels, labels)
        tables.bad |= {row.case_id: row for row in bad}
        if part.metadata in files:
            known, unusable = read_metadata(_table(files, part.metadata))
            tables.metadata |= {row.case_id for row in known} | {row.case_id for row in unusable}
        if part.no_chest in files:
            tables.no_chest |= read_no_chest(_table(files, part.no_chest))
    if GROUNDING in files:
        volumes = read_grounding(_table(files, GROUNDING))
        tables.grounding = {volume.case_id: volume.categories for volume in volumes}
    return tables


def _collect(rows_by_id: dict[str, list[_RowOfCase]], rows: list[_RowOfCase]) -> None:
    for row in rows:
        rows_by_id.setdefault(row.case_id, []).append(row)


def _table(files: Mapping[str, Row], path: str) -> Path:
    if path not in files:
        raise DataError(path, "is not in the data set", "run `dvc repro -f -s download`")
    return resolve(files[path], "download")


def _mask_digests(name: VolumeId, files: Mapping[str, Row]) -> dict[str, str]:
    return {kind: files[path].sha256 for kind, path in _mask_files(name) if path in files}


def _mask_files(name: VolumeId) -> Iterator[tuple[str, str]]:
    for kind in _KINDS:
        yield kind, _mask_inside_root(name.case_id, kind)
    yield "findings", name.findings_mask


def _mask_inside_root(case_id: str, kind: MaskKind) -> str:
    name = parse_id(case_id)
    if kind == "total" and name is not None:
        return name.anatomy_mask
    return f"phantom_masks/{kind}/{case_id}{SUFFIX}"
