"""AbdomenAtlas 3.0 Mini as cases: tables, official split and CTs, joined by id.

A case has three flags (liver, kidney, pancreas): whether the table counts a lesion there. Each CT
is its own patient, because the set names no patients; some CTs of older sets occur twice under
different ids, which only a comparison of the images can reveal.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath
from typing import Final

from uvlm.data.cases import Case, Split
from uvlm.data.label_scheme import fine_classes
from uvlm.data.sets.abdomen_atlas.layout import PREFIX, TABLE, TEST_IDS, TRAIN_IDS, image, mask
from uvlm.data.sets.abdomen_atlas.tables import ID, AtlasRow, read_atlas, read_ids
from uvlm.data.sets.dataset import DataSet, Files, Masks, column_by_table, table_path
from uvlm.data.sets.selection import EXCLUSIONS, read_selection
from uvlm.store import Refusal, Row
from uvlm.text.sections import split_sections


class AtlasLayout(DataSet):
    """A data set in AbdomenAtlas' layout, wherever it came from; `report` is which one to learn."""

    @property
    def report(self) -> str:
        """Which of the four reports to learn."""
        raise NotImplementedError

    def cases(self, files: Files) -> tuple[list[Case], list[Refusal]]:
        """Join the table and the official split with the CTs."""
        return read_cases(files, self.report)

    def rows_by_table(self, files: Files) -> dict[str, list[str]]:
        """List the id of every row of every table and the folder of every CT."""
        volumes = [path.split("/")[-2] for path in files if path.endswith("/ct.nii.gz")]
        tables = {"volume files": volumes} | column_by_table(files, ID)
        return {table: [name.strip() for name in names] for table, names in tables.items()}


def read_cases(files: Files, report: str) -> tuple[list[Case], list[Refusal]]:
    """Join the tables with the CTs; every id ends as a case or as one refusal.

    Args:
        files: the download manifest, by path inside the data set's root.
        report: which of the four reports to learn.
    """
    table, *lists = (table_path(files, f"{PREFIX}/{name}") for name in (TABLE, TRAIN_IDS, TEST_IDS))
    good, bad = read_atlas(table, report)
    train, test = (set(read_ids(path)) for path in lists)
    volumes = {PurePosixPath(path).parent.name for path in files if "/image_only/" in path}
    rows: dict[str, list[AtlasRow]] = defaultdict(list)
    for row in good:
        rows[row.case_id].append(row)
    selection = read_selection(files)
    refusals = {row.case_id: _refuse(row.case_id, row.reason, row.fact) for row in bad}
    cases = []
    for case_id in sorted({*rows, *train, *test, *volumes} - refusals.keys()):
        if excluded := selection.reason(case_id):
            refusals[case_id] = _refuse(case_id, excluded, EXCLUSIONS[excluded])
        elif problem := _problem(case_id, rows[case_id], train, test, volumes):
            refusals[case_id] = _refuse(case_id, *problem)
        else:
            volume = files[f"{PREFIX}/{image(case_id)}"]
            split: Split = "test" if case_id in test else "train"
            cases.append(_case(rows[case_id][0], split, volume))
    return cases, list(refusals.values())


def masks_of(case: Case, _: str) -> dict[int, str]:
    """Find one file per structure or lesion, by its id in abdomen.json."""
    above = case.volume.removesuffix(image(case.case_id))
    names = enumerate(fine_classes("abdomen").names[1:], start=1)
    return {number: above + mask(case.case_id, name) for number, name in names}


MASKS: Final = Masks("abdomen_atlas_masks", "3.0 Mini", "CC-BY-NC-SA-4.0", masks_of)


def _problem(
    case_id: str, rows: list[AtlasRow], train: set[str], test: set[str], volumes: set[str]
) -> tuple[str, str] | None:
    """Find the reason and the fact for refusing a CT, if there are any."""
    if not rows:
        return "no_reports", "has no row in the table"
    if len(rows) > 1:
        places = ", ".join(row.place for row in rows)
        return "duplicate_id", f"has {len(rows)} rows: {places}"
    if (case_id in train) == (case_id in test):
        both = "both lists" if case_id in train else "neither list"
        return "no_split", f"is in {both} of the official split"
    if case_id not in volumes:
        return "missing_file", "has a report but no CT"
    if split_sections(rows[0].report).report.is_empty:
        return "empty_report", f"{rows[0].place}: there is no report"
    return None


def _case(row: AtlasRow, split: Split, volume: Row) -> Case:
    report = split_sections(row.report).report
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
