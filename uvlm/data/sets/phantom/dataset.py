"""The phantom data set: CT-RATE and ReXGroundingCT in miniature, written from a seed.

Paths, file names, columns and JSON keys are those of the real sets, so the pipeline reads phantoms
with the adapters it reads CT-RATE with. Volumes come in mixed orientations and spacings; some
patients have two scans, some scans two reconstructions. Four planted defects (a truncated gzip, a
volume with NaN, a duplicate id, an empty report) must be quarantined by name.
"""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

from uvlm import store
from uvlm.config import PhantomConfig
from uvlm.data.sets.ct_rate.cases import MASKS as CT_RATE_MASKS
from uvlm.data.sets.ct_rate.cases import CtRateLayout
from uvlm.data.sets.dataset import Label
from uvlm.data.sets.phantom.patient import DEFECTS, write_patient
from uvlm.data.sets.phantom.tables import write_tables
from uvlm.files import key_of, store_root, write_json_atomic

FORMAT_VERSION: Final = 3
MASKS: Final = dataclasses.replace(
    CT_RATE_MASKS, backend="phantom", version="1", licence="Apache-2.0"
)


@dataclasses.dataclass(frozen=True)
class Phantoms(CtRateLayout):
    """Written from a seed, not fetched."""

    config: PhantomConfig
    seed: int
    masks: ClassVar = MASKS

    def fetch(
        self, manifest: Path, label: Label, progress: store.CaseProgress | None = None
    ) -> None:
        """Write the phantoms."""
        write_dataset(self.config, self.seed, manifest, progress)


class Member(NamedTuple):
    """One patient to be written: name, and the defect planted in it, if any."""

    patient: str
    defect: str | None


def write_dataset(
    config: PhantomConfig, seed: int, manifest: Path, progress: store.CaseProgress | None = None
) -> Path:
    """Write the whole data set below the store and its manifest; returns the data set's root.

    A patient that is already there is not written again.
    """
    key = key_of("phantom", FORMAT_VERSION, seed, config.model_dump(mode="json"))
    name = f"raw/phantom-{key}"
    root = store_root() / name
    records = store.map_cases(
        partial(_write_once, root=root, config=config, seed=seed),
        members(config),
        description="phantom patients",
        progress=progress,
    )
    files = [tuple(file) for record in records for file in record["files"]]
    files += write_tables(root, records)
    source = f"phantom:{seed}"
    rows = [
        store.Row(case=path, key=key, path=f"{name}/{path}", sha256=sha256, source=source, extra={})
        for path, sha256 in files
    ]
    store.write_manifest(manifest, rows)
    return root


def members(config: PhantomConfig) -> list[Member]:
    """All patients; those with a planted defect come on top of the healthy training files."""
    train = [Member(f"train_{i}", None) for i in range(1, config.train_patients + 1)]
    test = [Member(f"valid_{i}", None) for i in range(1, config.test_patients + 1)]
    first = config.train_patients + 1
    broken = [Member(f"train_{i}", defect) for i, defect in enumerate(DEFECTS, start=first)]
    return train + test + (broken if config.defects else [])


def _write_once(member: Member, root: Path, config: PhantomConfig, seed: int) -> dict[str, Any]:
    """Return the patient's record, from its own file when the patient has been written before."""
    record_path = root / "records" / f"{member.patient}.json"
    if record_path.exists():
        record: dict[str, Any] = json.loads(record_path.read_text(encoding="utf-8"))
        if all((root / path).exists() for path, _ in record["files"]):
            return record
    record = dataclasses.asdict(write_patient(root, member.patient, member.defect, config, seed))
    write_json_atomic(record_path, record)
    return record
