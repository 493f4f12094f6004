"""CT-RATE and ReXGroundingCT as published: tables, paths and names to cases.

    ct_rate/dataset/{train,valid}_fixed/train_1/train_1_a/train_1_a_1.nii.gz    a volume, in HU
    ct_rate/dataset/ts_seg/ts_total/{train,valid}_fixed/...                     anatomy masks
    ct_rate/dataset/radiology_text_reports/{train,validation}_reports.csv
    ct_rate/dataset/multi_abnormality_labels/{train,valid}_predicted_labels.csv
    ct_rate/dataset/metadata/no_chest_{train,valid}.txt                         volumes to leave out
    rexgroundingct/dataset.json, segmentations/train_1_a_1.nii.gz               findings masks
    phantom_masks/{airway,vessel}/train_1_a_1.nii.gz                            phantoms only

The volumes of the `_fixed` folders hold Hounsfield units: the rescale columns of the metadata table
must not be applied to them again, so that table is not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, Literal

from uvlm.data.cases import Case
from uvlm.data.label_scheme import fine_classes
from uvlm.data.tables import TableRow, broken_table, read_table, read_text
from uvlm.errors import DataError
from uvlm.store import Refusal, Row, resolve
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.report import Report

MaskKind = Literal["total", "airway", "vessel"]
DATASET: Final = "ct_rate/dataset"
NO_CHEST: Final = "no_chest"
_GROUNDING: Final = "rexgroundingct/dataset.json"
_NAME: Final = re.compile(r"(train|valid)_(\d+)_([a-z])_(\d+)")
_SUFFIX: Final = ".nii.gz"
# Of each split: its volumes' prefix, its name in the reports table, its name elsewhere.
_SPLITS: Final = (("train", "train"), ("valid", "validation"))


@dataclass(frozen=True)
class _Tables:
    """What the tables say about each volume id; lists, because ids may come more than once."""

    reports: dict[str, list[TableRow]]
    labels: dict[str, list[TableRow]]
    no_chest: frozenset[str]
    grounding: dict[str, dict[str, str]]


def read_cases(files: Mapping[str, Row]) -> tuple[list[Case], list[Refusal]]:
    """Join the tables with the volumes; every volume id ends as a case or as one refusal.

    Args:
        files: the download manifest, by path inside the data set's root. A case of CT-RATE's
            training part has the split "train", one of its validation part the split "test".
    """
    tables = _read_tables(files)
    volumes = {_id_of(path): row for path, row in files.items() if _is_volume(path)}
    cases, refusals = [], []
    for case_id in sorted({*volumes, *tables.reports}):
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
    reports, labels = tables.reports.get(case_id, []), tables.labels.get(case_id, [])
    name = _NAME.fullmatch(case_id)
    if name is None:
        return _refuse(case_id, "bad_id", "is not named split_patient_scan_reconstruction")
    if case_id in tables.no_chest:
        return _refuse(case_id, NO_CHEST, "is on the list of volumes that show no chest")
    for rows, table in ((reports, "reports"), (labels, "labels")):
        if len(rows) != 1:
            lines = ", ".join(str(row.line) for row in rows)
            fact = f"has {len(rows)} rows in the {table} table"
            reason = "duplicate_id" if rows else f"no_{table}"
            return _refuse(case_id, reason, f"{fact} (lines {lines})" if rows else fact)
    if volume is None:
        return _refuse(case_id, "missing_file", "has a report but no volume")
    flags = [labels[0].values[abnormality] for abnormality in ABNORMALITIES]
    if not set(flags) <= {"0", "1"}:
        return _refuse(case_id, "bad_label", f"has the labels {flags}")
    report = Report(reports[0].values["Findings_EN"], reports[0].values["Impressions_EN"])
    if report.is_empty:
        return _refuse(case_id, "empty_report", "has neither findings nor impression")
    findings_mask = files.get(_findings_inside_root(case_id))
    split, patient, scan, _ = name.groups()
    return Case(
        case_id=case_id,
        scan_id=f"{split}_{patient}_{scan}",
        patient_id=f"{split}_{patient}",
        split="train" if split == "train" else "test",
        volume=volume.path,
        findings_mask=findings_mask.path if findings_mask else None,
        finding_categories=tables.grounding.get(case_id, {}) if findings_mask else {},
        abnormalities=tuple(map(int, flags)),
        findings=report.findings,
        impression=report.impression,
        sha256=volume.sha256,
        mask_sha256=_mask_digests(case_id, files),
        source=volume.source,
    )


def _refuse(case_id: str, reason: str, fact: str) -> Refusal:
    remedy = "correct the tables or leave the volume out"
    return Refusal(case_id, f"{case_id}{_SUFFIX}", reason, fact, remedy)


def _read_tables(files: Mapping[str, Row]) -> _Tables:
    reports: dict[str, list[TableRow]] = {}
    labels: dict[str, list[TableRow]] = {}
    no_chest: set[str] = set()
    for prefix, name in _SPLITS:
        path = f"{DATASET}/radiology_text_reports/{name}_reports.csv"
        _collect(reports, files, path, ("Findings_EN", "Impressions_EN"))
        path = f"{DATASET}/multi_abnormality_labels/{prefix}_predicted_labels.csv"
        _collect(labels, files, path, ABNORMALITIES)
        path = f"{DATASET}/metadata/no_chest_{prefix}.txt"
        if path in files:
            lines = read_text(resolve(files[path], "download")).split()
            no_chest |= {_id_of(line) for line in lines}
    return _Tables(reports, labels, frozenset(no_chest), _read_grounding(files))


def _collect(
    rows_by_id: dict[str, list[TableRow]],
    files: Mapping[str, Row],
    path: str,
    columns: tuple[str, ...],
) -> None:
    """Add the rows of one table; a label column without a single flag breaks the table."""
    if path not in files:
        raise DataError(path, "is not in the data set", "run `dvc repro -f -s download`")
    file = resolve(files[path], "download")
    rows = read_table(file, ("VolumeName", *columns))
    check_flags(file, rows, columns if columns is ABNORMALITIES else ())
    for row in rows:
        rows_by_id.setdefault(_id_of(row.values["VolumeName"]), []).append(row)


def check_flags(file: Any, rows: list[TableRow], columns: tuple[str, ...]) -> None:
    """Refuse a table with a column of flags in which no row holds one."""
    problems = [
        f"column {column} holds no 0 or 1: line {rows[0].line} has {rows[0].values[column]!r}"
        for column in columns
        if rows and not any(row.values[column] in ("0", "1") for row in rows)
    ]
    if problems:
        raise broken_table(file, problems)


def _read_grounding(files: Mapping[str, Row]) -> dict[str, dict[str, str]]:
    """Read ReXGroundingCT's categories: by volume id, the category of each mask channel."""
    if _GROUNDING not in files:
        return {}
    path = resolve(files[_GROUNDING], "download")
    try:
        splits = json.loads(read_text(path))
        entries = [entry for split in ("train", "val", "test") for entry in splits[split]]
        grounding = {_id_of(e["name"]): dict(e["categories"]) for e in entries}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(path, f"not a ReXGroundingCT table ({error!r})", "get it again") from None
    known = fine_classes("chest").lesion_id_by_category
    unknown = sorted({c for found in grounding.values() for c in found.values()} - set(known))
    if unknown:
        raise DataError(path, f"has unknown categories {', '.join(unknown)}", "get it again")
    return grounding


def _mask_digests(case_id: str, files: Mapping[str, Row]) -> dict[str, str]:
    return {kind: files[path].sha256 for kind, path in _mask_files(case_id) if path in files}


def _mask_files(case_id: str) -> Iterator[tuple[str, str]]:
    kinds: tuple[MaskKind, ...] = ("total", "airway", "vessel")
    for kind in kinds:
        yield kind, _mask_inside_root(case_id, kind)
    yield "findings", _findings_inside_root(case_id)


def _mask_inside_root(case_id: str, kind: MaskKind) -> str:
    if kind == "total":
        split, patient, scan, _ = case_id.split("_")
        folder = f"{split}_fixed/{split}_{patient}/{split}_{patient}_{scan}"
        return f"{DATASET}/ts_seg/ts_total/{folder}/{case_id}{_SUFFIX}"
    return f"phantom_masks/{kind}/{case_id}{_SUFFIX}"


def _findings_inside_root(case_id: str) -> str:
    return f"rexgroundingct/segmentations/{case_id}{_SUFFIX}"


def _is_volume(path: str) -> bool:
    return path.startswith((f"{DATASET}/train_fixed/", f"{DATASET}/valid_fixed/"))


def _id_of(name: str) -> str:
    """Cut folders and suffix off a volume's name."""
    return PurePosixPath(name).name.removesuffix(_SUFFIX)
