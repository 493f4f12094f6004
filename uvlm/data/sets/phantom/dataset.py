"""The phantom data set: CT-RATE and ReXGroundingCT in miniature, written from a seed.

Paths, file names, columns and JSON keys are those of the real sets, so the pipeline reads phantoms
with its adapters for CT-RATE. Volumes come in mixed orientations and spacings; some
patients have two scans, some scans two reconstructions. Four planted defects (a truncated gzip, a
volume with NaN, a duplicate id, an empty report) must be quarantined by name.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Final, NamedTuple

from uvlm import store
from uvlm.config import PatientsConfig, PhantomConfig
from uvlm.data.sets.ct_rate.cases import MASKS as CT_RATE_MASKS
from uvlm.data.sets.ct_rate.cases import CtRateLayout
from uvlm.data.sets.dataset import Label
from uvlm.data.sets.phantom.disease import Disease, EasyDisease
from uvlm.data.sets.phantom.patient import DEFECTS, write_patient
from uvlm.data.sets.phantom.tables import write_tables
from uvlm.files import key_of, store_root, write_json_atomic
from uvlm.store.changed_code import Kept, guarded

FORMAT_VERSION: Final = 3
MASKS: Final = replace(CT_RATE_MASKS, backend="phantom", version="1", licence="Apache-2.0")


@dataclass(frozen=True)
class Phantoms(CtRateLayout):
    """Written from a seed, not fetched."""

    config: PhantomConfig
    seed: int
    masks: ClassVar = MASKS

    def fetch(
        self,
        manifest: Path,
        label: Label,
        progress: store.CaseProgress | None = None,
        code: str = "",
    ) -> None:
        """Write the phantoms."""
        write_dataset(self.config, self.seed, manifest, progress, code)


class Member(NamedTuple):
    """One patient to be written, and the defect planted in it, if any."""

    case_id: str
    defect: str | None


class Written(NamedTuple):
    """Which set of phantoms is written, and the constant that says how."""

    name: str
    version: int
    constant: str


def write_dataset(
    config: PhantomConfig,
    seed: int,
    manifest: Path,
    progress: store.CaseProgress | None = None,
    code: str = "",
) -> Path:
    """Write the default phantoms; see `write_patients`."""
    constant = "FORMAT_VERSION in uvlm/data/sets/phantom/dataset.py"
    made_by = Written("phantom", FORMAT_VERSION, constant)
    return write_patients(made_by, EasyDisease(config), seed, manifest, progress, code)


def write_patients(
    made_by: Written,
    disease: Disease,
    seed: int,
    manifest: Path,
    progress: store.CaseProgress | None = None,
    code: str = "",
) -> Path:
    """Write a whole data set below the store, and its manifest; returns the data set's root.

    Patients that are already there are not written again; `code` is as in `every_case.run`.
    """
    config = disease.config
    key = key_of(made_by.name, made_by.version, seed, config.model_dump(mode="json"))
    name = f"raw/{made_by.name}-{key}"
    root = store_root() / name
    everyone, patients = members(config), _Patients(root, disease, seed, made_by)
    write, title = patients.find_or_write, "phantom patients"
    work = partial(store.map_cases, write, everyone, description=title, progress=progress)
    records = guarded(patients, everyone, code, work)
    files = [file for record in records for file in record["files"]] + write_tables(root, records)
    source = f"{made_by.name}:{seed}"
    rows = [store.Row(path, key, f"{name}/{path}", sha256, source) for path, sha256 in files]
    store.write_manifest(manifest, rows)
    return root


def members(config: PatientsConfig) -> list[Member]:
    """List all patients; those with a planted defect come on top of the healthy ones."""
    train = [Member(f"train_{i}", None) for i in range(1, config.train_patients + 1)]
    test = [Member(f"valid_{i}", None) for i in range(1, config.test_patients + 1)]
    first = config.train_patients + 1
    broken = [Member(f"train_{i}", defect) for i, defect in enumerate(DEFECTS, start=first)]
    return train + test + (broken if config.defects else [])


@dataclass(frozen=True)
class _Patients(Kept[Member]):
    """The patients below the root of a data set."""

    root: Path
    disease: Disease
    seed: int
    made_by: Written
    stage = "phantom"

    @property
    def constant(self) -> str:
        return self.made_by.constant

    @property
    def settings(self) -> list[Any]:
        config = self.disease.config.model_dump(mode="json")
        return [self.made_by.version, self.seed, config]

    def find_or_write(self, member: Member) -> tuple[dict[str, Any], bool]:
        """Return a patient's record, and whether the patient had been written before."""
        if (found := self._record(member)) is not None:
            return found, True
        record = asdict(write_patient(self.root, *member, self.disease, self.seed))
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

    def _record(self, member: Member) -> dict[str, Any] | None:
        """Read the record of a patient, if all its files are there."""
        path = self._record_path(member)
        record: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        is_whole = record and all((self.root / file).exists() for file, _ in record["files"])
        return record if is_whole else None
