"""A set of phantoms being written: patients once each, tables over all of them, the manifest."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from uvlm import store
from uvlm.config import AbdomenPhantomConfig, PatientsConfig, Section
from uvlm.data.sets.survey import Expected, Survey
from uvlm.files import key_of, store_root, write_json_atomic
from uvlm.store.changed_code import Kept, guarded

Record = dict[str, Any]  # what the tables need of a patient; JSON values
Tables = Callable[[Path, Sequence[Record]], list[tuple[str, str]]]  # to path and sha256 of each


class Member(NamedTuple):
    """One patient to be written, and the defect planted in it, if any."""

    case_id: str
    defect: str | None


Write = Callable[[Path, Member], Record]


@dataclass(frozen=True)
class Written:
    """What decides every byte of a set of phantoms.

    Args:
        name: of the set.
        version: of the code that writes it.
        constant: where that version is raised.
        seed: what everything is drawn from.
        config: the section of the set.
    """

    name: str
    version: int
    constant: str
    seed: int
    config: Section

    @property
    def settings(self) -> list[Any]:
        """Version, seed and section as JSON values."""
        return [self.version, self.seed, self.config.model_dump(mode="json")]


def write_set(
    made_by: Written,
    everyone: Sequence[Member],
    write: Write,
    tables: Tables,
    manifest: Path,
    progress: store.CaseProgress | None = None,
    code: str = "",
) -> Path:
    """Write a whole data set below the store, and its manifest; returns the data set's root.

    Args:
        made_by: what decides the bytes.
        everyone: all patients.
        write: writes the files of a patient below a root; the record's `files` lists path and
            sha256 of each.
        tables: writes the tables below the root, from all records.
        manifest: where to write it.
        progress: called as patients are written; those that are already there are not again.
        code: as in `every_case.run`.
    """
    key = key_of(made_by.name, *made_by.settings)
    name = f"raw/{made_by.name}-{key}"
    root = store_root() / name
    patients, title = _Patients(root, made_by, write), "phantom patients"
    find = patients.find_or_write
    work = partial(store.map_cases, find, everyone, description=title, progress=progress)
    records = guarded(patients, everyone, code, work)
    files = [file for record in records for file in record["files"]] + tables(root, records)
    source = f"{made_by.name}:{made_by.seed}"
    rows = [store.Row(path, key, f"{name}/{path}", sha256, source) for path, sha256 in files]
    store.write_manifest(manifest, rows)
    return root


@dataclass(frozen=True)
class _Patients(Kept[Member]):
    """The patients below the root of a data set."""

    root: Path
    made_by: Written
    write: Write
    stage = "phantom"

    @property
    def constant(self) -> str:
        return self.made_by.constant

    @property
    def settings(self) -> list[Any]:
        return self.made_by.settings

    def find_or_write(self, member: Member) -> tuple[Record, bool]:
        """Return a patient's record, and whether the patient had been written before."""
        if (found := self._record(member)) is not None:
            return found, True
        record = self.write(self.root, member)
        write_json_atomic(self._record_path(member), record)
        return record, False

    def is_stored(self, item: Member) -> bool:
        return self._record(item) is not None

    def difference(self, item: Member) -> tuple[str, str] | None:
        with TemporaryDirectory() as folder:
            again = replace(self, root=Path(folder))
            again.find_or_write(item)
            old, new = self._record(item) or {}, again._record(item) or {}
            # Some facts, such as an affine's origin, are in no record: compare the files as well.
            other = [name for name in old if old[name] != new[name]] or [
                path for path, _ in old["files"] if self._content(path) != again._content(path)
            ]
        return (f"{', '.join(other)} of the patient", self.constant) if other else None

    def _content(self, path: str) -> bytes:
        """Decompress as much of a gzip file as is there: one planted defect cuts its end off."""
        return zlib.decompressobj(wbits=31).decompress((self.root / path).read_bytes())

    def _record_path(self, member: Member) -> Path:
        return self.root / "records" / f"{member.case_id}.json"

    def _record(self, member: Member) -> Record | None:
        """Read the record of a patient, if all its files are there."""
        path = self._record_path(member)
        record: Record = json.loads(path.read_text("utf-8")) if path.exists() else {}
        is_whole = record and all((self.root / file).exists() for file, _ in record["files"])
        return record if is_whole else None


def expected(config: PatientsConfig | AbdomenPhantomConfig) -> Survey:
    """Expect as many volumes as the shares of second scans and reconstructions make likely."""
    each = 1.0
    if isinstance(config, PatientsConfig):
        each = (1 + config.second_scan_fraction) * (1 + config.second_reconstruction_fraction)
    patients = {"train": config.train_patients, "test": config.test_patients}
    cases = [
        Expected(f"{part}_{number}", part, is_drawn=True, flags=())
        for part, count in patients.items()
        for number in range(round(count * each))
    ]
    return Survey(cases, [], config.shape)
