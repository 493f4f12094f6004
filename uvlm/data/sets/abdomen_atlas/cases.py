"""AbdomenAtlas 3.0 Mini as cases: tables, official split and CTs, joined by id.

A case has three flags (liver, kidney, pancreas): whether the table counts a lesion there. One CT is
one patient, because the set names no patients; some CTs of older sets come twice under different
ids, which only a comparison of the images can show.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from uvlm.data.cases import Case, Split
from uvlm.data.sets.abdomen_atlas.layout import PREFIX, TABLE, TEST_IDS, TRAIN_IDS, image
from uvlm.data.sets.abdomen_atlas.tables import AtlasRow, read_atlas, read_ids
from uvlm.data.sets.selection import EXCLUSIONS, read_selection
from uvlm.errors import DataError
from uvlm.store import Refusal, Row, resolve
from uvlm.text.report import Report


def read_cases(files: Mapping[str, Row], report: str) -> tuple[list[Case], list[Refusal]]:
    """Join the table with the CTs; every id of the table ends as a case or as one refusal.

    Args:
        files: the download manifest, by path inside the data set's root.
        report: which of the four reports is learned.
    """
    good, bad = read_atlas(_table(files, TABLE), report)
    train, test = (set(read_ids(_table(files, name))) for name in (TRAIN_IDS, TEST_IDS))
    selection = read_selection(files)
    rows: dict[str, list[AtlasRow]] = {}
    for row in good:
        rows.setdefault(row.case_id, []).append(row)
    cases, refusals = [], [_refuse(row.case_id, row.reason, row.fact) for row in bad]
    for case_id, same in sorted(rows.items()):
        excluded = selection.reason(case_id)
        problem = _problem(case_id, same, train, test, files)
        if excluded:
            refusals.append(_refuse(case_id, excluded, EXCLUSIONS[excluded]))
        elif problem:
            refusals.append(_refuse(case_id, *problem))
        else:
            volume = files[f"{PREFIX}/{image(case_id)}"]
            cases.append(_case(same[0], "test" if case_id in test else "train", volume))
    return cases, refusals


def _problem(
    case_id: str, rows: list[AtlasRow], train: set[str], test: set[str], files: Mapping[str, Row]
) -> tuple[str, str] | None:
    if len(rows) > 1:
        places = ", ".join(row.place for row in rows)
        return "duplicate_id", f"has {len(rows)} rows: {places}"
    if (case_id in train) == (case_id in test):
        both = "both lists" if case_id in train else "neither list"
        return "no_split", f"is in {both} of the official split"
    if f"{PREFIX}/{image(case_id)}" not in files:
        return "missing_file", "has a report but no CT"
    if Report(rows[0].report, "").is_empty:
        return "empty_report", f"{rows[0].place}: there is no report"
    return None


def _case(row: AtlasRow, split: Split, volume: Row) -> Case:
    report = Report(row.report, "")
    return Case(
        case_id=row.case_id,
        scan_id=row.case_id,
        patient_id=row.case_id,
        split=split,
        volume=volume.path,
        findings_mask=None,
        finding_categories={},
        abnormalities=tuple(int(count > 0) for count in row.lesions),
        findings=report.findings,
        impression=report.impression,
        sha256=volume.sha256,
        source=volume.source,
    )


def _refuse(case_id: str, reason: str, fact: str) -> Refusal:
    remedy = "" if reason in EXCLUSIONS else "correct the tables or leave the CT out"
    return Refusal(case_id, f"{case_id}/ct.nii.gz", reason, fact, remedy)


def _table(files: Mapping[str, Row], name: str) -> Path:
    path = f"{PREFIX}/{name}"
    if path not in files:
        raise DataError(path, "is not in the data set", "run `dvc repro -f -s download`")
    return resolve(files[path], "download")
