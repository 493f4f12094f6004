"""A user's own CTs and reports as cases, from the files that the download leaves (layout.py)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePosixPath

from uvlm.config import FolderConfig
from uvlm.data.cases import Case, Split
from uvlm.data.sets.ct_rate.tables import read_labels
from uvlm.data.sets.dataset import Files, table_path
from uvlm.data.sets.own.layout import CTS, FAULTS, LABELS, TABLE, ct_of
from uvlm.data.sets.own.table import OwnRow, read_own_table
from uvlm.errors import DataError
from uvlm.files import key_of
from uvlm.seeding import unit_interval
from uvlm.store import Refusal, Row
from uvlm.tables import BadRow


def read_cases(files: Files, config: FolderConfig, seed: int) -> tuple[list[Case], list[Refusal]]:
    """Join the table with CTs and labels; every row ends as a case or as one refusal.

    Args:
        files: the download manifest, by path inside the data set.
        config: the names of the columns, and the share of the test part.
        seed: chooses the test patients if the table does not.
    """
    rows, bad = read_own_table(table_path(files, TABLE), config)
    refusals = {row.case_id: _refuse(row) for row in (*bad, *_faults(files))}
    labels = read_labels(table_path(files, LABELS))[0] if LABELS in files else []
    flags = {row.case_id: row.flags for row in labels}
    volumes = _volumes(files)
    splits = _splits(rows, config, seed)
    cases = []
    for row in rows:
        known = row.flags or flags.get(row.case_id)
        if row.case_id in refusals:
            continue
        if known is None:
            bad_row = BadRow(row.case_id, "no_labels", f"{row.place} has no labels")
            refusals[row.case_id] = _refuse(bad_row)
        elif row.case_id not in volumes:
            bad_row = BadRow(row.case_id, "missing_file", f"{row.place} has no CT")
            refusals[row.case_id] = _refuse(bad_row)
        else:
            split = splits[row.patient_id, row.split]
            cases.append(_case(row, known, split, volumes[row.case_id]))
    return cases, list(refusals.values())


def _case(row: OwnRow, flags: tuple[int, ...], split: Split, volume: Sequence[Row]) -> Case:
    first = volume[0]
    is_series = len(PurePosixPath(first.case).relative_to(CTS).parts) > 1
    path = PurePosixPath(first.path)
    return Case(
        case_id=row.case_id,
        scan_id=row.case_id,
        patient_id=row.patient_id,
        split=split,
        volume=(path.parent if is_series else path).as_posix(),
        findings_mask=None,
        finding_categories={},
        abnormalities=flags,
        findings=row.report.findings,
        impression=row.report.impression,
        sha256=key_of([f.sha256 for f in volume]) if is_series else first.sha256,
        source=first.source,
    )


def _splits(
    rows: Sequence[OwnRow], config: FolderConfig, seed: int
) -> dict[tuple[str, str | None], Split]:
    """Give every patient a split: that of the table, or else one by the hash of the name."""
    # Ranked by a hash of the name, so that the order of the rows does not matter.
    patients = sorted({row.patient_id for row in rows}, key=lambda p: unit_interval(seed, "own", p))
    test = set(patients[: max(1, round(config.test_fraction * len(patients)))])
    splits: dict[tuple[str, str | None], Split] = {}
    for row in rows:
        is_test = row.patient_id in test if row.split is None else row.split == "test"
        splits[row.patient_id, row.split] = "test" if is_test else "train"
    return splits


def _volumes(files: Files) -> dict[str, list[Row]]:
    """Collect the files of each CT, sorted by name."""
    volumes: dict[str, list[Row]] = {}
    for path in sorted(files):
        if case_id := ct_of(path):
            volumes.setdefault(case_id, []).append(files[path])
    return volumes


def _faults(files: Files) -> list[BadRow]:
    """Read the list of CTs that the download did not find."""
    path = table_path(files, FAULTS)
    try:
        return [BadRow(**fault) for fault in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        fact = f"not the record of a download ({error!r})"
        raise DataError(path, fact, "run `dvc repro -f -s download`") from None


def _refuse(row: BadRow) -> Refusal:
    remedy = "correct the table or the file, then run `dvc repro -f -s download`"
    return Refusal(row.case_id, row.case_id, row.reason, row.fact, remedy)
