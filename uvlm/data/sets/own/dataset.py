"""A user's own CTs and table of reports, in the folder named by `$UVLM_OWN_DATA`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

from uvlm import store
from uvlm.config import FolderConfig
from uvlm.data.cases import Case
from uvlm.data.ct.find import without_suffix
from uvlm.data.sets.ct_rate.tables import labels_text
from uvlm.data.sets.dataset import DataSet, Files, Label, local_row, table_path
from uvlm.data.sets.own.cases import read_cases
from uvlm.data.sets.own.fetch import SOURCE, copy_ct, own_folder
from uvlm.data.sets.own.find import OwnCt, OwnFolder, find_own
from uvlm.data.sets.own.layout import FAULTS, LABELS, READ, TABLE, ct_of
from uvlm.data.sets.own.table import OwnRow, read_own_table
from uvlm.data.sets.survey import Expected, Survey, kind_of
from uvlm.errors import DataError
from uvlm.files import key_of, store_root, write_bytes_atomic
from uvlm.store import CaseProgress, Refusal, Row
from uvlm.tables import BadRow, read_table
from uvlm.text.known_words import OtherLanguageError, count_known

_NAME: Final = "VolumeName"  # as in CT-RATE's tables of labels


@dataclass(frozen=True)
class OwnData(DataSet):
    """The folder and how to read its table; the seed chooses the test patients."""

    config: FolderConfig
    seed: int

    def survey(self, progress: CaseProgress | None = None) -> Survey:
        """Read the table and find the CTs; whether they can be read is seen later."""
        folder = own_folder()
        good, _ = read_own_table(folder / self.config.table, self.config)
        below = OwnFolder.of(folder)
        candidates = below.candidates(good, by_path=self.config.file_column is not None)
        found = [ct for ct in map(find_own, candidates) if isinstance(ct, OwnCt)]
        sizes = [path.stat().st_size for ct in found for path in ct.origin.paths]
        flags = {row.case_id: row.flags for row in good}
        cases = [
            Expected(ct.case_id, "train", is_drawn=False, flags=flags[ct.case_id] or ())
            for ct in found
        ]
        return Survey(cases, [kind_of("CTs and their copies", len(sizes), sizes)])

    def fetch(
        self, manifest: Path, label: Label, progress: CaseProgress | None = None, code: str = ""
    ) -> None:
        """Copy table and CTs; label the reports if the table does not."""
        folder = own_folder()
        table = folder / self.config.table
        good, _ = read_own_table(table, self.config)
        below = OwnFolder.of(folder)
        candidates = below.candidates(good, by_path=self.config.file_column is not None)
        found = store.map_cases(find_own, candidates, description="finding CTs", progress=progress)
        cts = [ct for ct in found if isinstance(ct, OwnCt)]
        faults = [fault for fault in found if isinstance(fault, BadRow)]
        if not cts:
            fact = f"none of the {len(good)} CTs that {self.config.table} names is there"
            raise DataError(folder, fact, "name the files after their ids, or set file_column")
        # A table has all columns of flags or none, so one row tells; unknown flags never become 0.
        labels = b"" if good[0].flags is not None else _label(table, good, label)
        copy = partial(copy_ct, raw=store_root() / "raw" / "own")
        copies = store.map_cases(copy, cts, description="own CTs", progress=progress)
        rows = [*chain.from_iterable(copies), _small(TABLE, table.read_bytes(), SOURCE)]
        rows.append(_small(FAULTS, json.dumps([asdict(f) for f in faults]).encode(), SOURCE))
        rows.append(_small(READ, _told(cts, below.unnamed(candidates)), SOURCE))
        if labels:
            rows.append(_small(LABELS, labels, "labeller"))
        store.write_manifest(manifest, rows)

    def cases(self, files: Files) -> tuple[list[Case], list[Refusal]]:
        """Join the table with CTs and labels."""
        return read_cases(files, self.config, self.seed)

    def remarks(self, files: Files) -> list[str]:
        """Say what was left out of folder and reports, and how many words are known."""
        told = json.loads(table_path(files, READ).read_text(encoding="utf-8"))
        rows, _ = read_own_table(table_path(files, TABLE), self.config)
        return [*_remarks_on_cts(told, self.config.table), *_remarks_on_reports(rows)]

    def rows_by_table(self, files: Files) -> dict[str, list[str]]:
        """List the id of every row of the user's table and of the labels, and every CT."""
        column, rows = self.config.id_column, read_table(table_path(files, TABLE)).rows
        ids = [without_suffix(row.values[column].strip()) or row.place for row in rows]
        labels = read_table(table_path(files, LABELS)).rows if LABELS in files else ()
        return {
            "volume files": sorted({ct for path in files if (ct := ct_of(path))}),
            self.config.table: ids,
            "labels.csv": [row.values[_NAME] for row in labels],
        }


def _remarks_on_cts(told: Mapping[str, Any], table: str) -> list[str]:
    """Count the CTs that no row names, and those that lie beside other series."""
    beside = sum(any(part["slices"] for part in ct["left_out"]) for ct in told["cts"].values())
    counted = {
        f"CTs that no row of {table} names": told["unnamed"],
        "CTs beside other series, which are not read (`uvlm check-ct` says why)": beside,
    }
    return [f"{what}: {count}" for what, count in counted.items() if count]


def _remarks_on_reports(rows: Sequence[OwnRow]) -> list[str]:
    """Say which sections are not part of the reports, and how English they look."""
    counts = Counter(name for row in rows for name in row.left_out)
    known = count_known(row.report.text for row in rows)
    named = ", ".join(f"{name} ({count})" for name, count in counts.most_common())
    share = f"{100 * known.share:.0f} % of the words of {len(rows)} reports are known English"
    return [*([f"sections left out of the reports: {named}"] if named else []), share]


def _label(table: Path, rows: Sequence[OwnRow], label: Label) -> bytes:
    """Label the reports; returns a table in CT-RATE's form."""
    try:
        flags = label([row.report.text for row in rows])
    except OtherLanguageError as error:
        remedy = " (evaluate.labeller); or add the 18 columns of labels"
        raise error.at(table, [row.place for row in rows], remedy) from None
    named = ((row.case_id, map(int, f)) for row, f in zip(rows, flags, strict=True))
    return labels_text(named).encode()


def _told(cts: Sequence[OwnCt], unnamed: int) -> bytes:
    """Record what was read and left out, without names and without ids that differ by machine."""
    record = {}
    for ct in cts:
        told = ct.origin.to_json()
        for part in (told, *told["left_out"]):
            del part["id"]
        # Voxels are only read later.
        record[ct.case_id] = {key: told[key] for key in told if key not in ("slices", "spacing_mm")}
    return json.dumps({"unnamed": unnamed, "cts": record}, sort_keys=True).encode()


def _small(case: str, content: bytes, source: str) -> Row:
    """Write a small file under a name derived from its content."""
    name = Path(case)
    folder, key = store_root() / "raw" / "own", key_of(content.hex())
    path = folder / f"{name.stem}-{key}{name.suffix}"
    write_bytes_atomic(path, content)
    return local_row(case, path, source)
