"""CTs of a rehearsal: small phantoms enlarged to a published size, in the layout of the data set.

Every voxel of a small phantom becomes a block, then the scanner's blur and noise are added at full
size. So the files have the sizes, the tables and the folders of the published ones, and cost what
those cost to read; what is in them is not a patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from uvlm.config import Grid, PhantomConfig
from uvlm.data.cases import Case, Split
from uvlm.data.sets.phantom.anatomy import Body
from uvlm.data.sets.phantom.disease import EasyDisease
from uvlm.data.sets.phantom.patient import write_patient
from uvlm.data.sets.phantom.scan import Scan
from uvlm.data.sets.phantom.tables import write_tables
from uvlm.data.splits import carve_validation
from uvlm.store import CaseProgress

_SMALL: Final = PhantomConfig(
    train_patients=8,
    test_patients=4,
    shape=(30, 48, 48),
    prevalence=0.3,
    second_scan_fraction=0.0,
    second_reconstruction_fraction=0.0,
    noise_hu=20.0,
    defects=False,
)


def write_chests(
    root: Path,
    train: int,
    test: int,
    grid: Grid,
    seed: int,
    progress: CaseProgress | None = None,
) -> list[dict[str, Any]]:
    """Write a data set in CT-RATE's layout below `root`; returns the records of its patients.

    Args:
        root: gets ct_rate/, rexgroundingct/ and phantom_masks/.
        train: number of training patients, with one CT each.
        test: number of test patients.
        grid: (z, y, x) of every CT.
        seed: of all draws.
        progress: called after every CT.
    """
    patients = [f"train_{i + 1}" for i in range(train)] + [f"valid_{i + 1}" for i in range(test)]
    records: list[dict[str, Any]] = []
    for number, patient in enumerate(patients):
        record = asdict(write_patient(root, patient, None, EnlargedPhantoms(_SMALL, grid), seed))
        records.append(record)
        if progress is not None:
            progress("CTs of the rehearsal", number + 1, len(patients))
    write_tables(root, records)
    return records


def annotate_few(
    root: Path, records: Sequence[dict[str, Any]], count: int, seed: int, val_fraction: float
) -> None:
    """Keep the drawings of `count` training patients, one of them for validation, and of one test.

    Pseudo-labels are made for these only, which on two cores take most of the time.
    """
    cases = [_case(record) for record in records]
    split = {c.patient_id: c.split for c in carve_validation(cases, seed, val_fraction)}
    kept = {name: [p for p in split if split[p] == name] for name in ("val", "test", "train")}
    drawn = {*kept["val"][:1], *kept["test"][:1], *kept["train"][: count - 1]}
    for record in records:
        if record["patient"] not in drawn:
            record["grounding"] = []
    write_tables(root, records)


def _case(record: dict[str, Any]) -> Case:
    """Make a case with what the split depends on."""
    patient, (volume,) = record["patient"], record["volumes"]
    split: Split = "train" if patient.startswith("train") else "test"
    ids = (patient, patient, patient)
    return Case(*ids, split, "", None, {}, tuple(volume["labels"]), "", "")


@dataclass(frozen=True)
class EnlargedPhantoms(EasyDisease):
    """The default phantoms, every voxel of them a block of the grid."""

    grid: Grid

    def paint(
        self,
        body: Body,
        abnormalities: Sequence[str],
        shape: tuple[int, int, int],
        draws: np.random.Generator,
    ) -> Scan:
        scan = super().paint(body, abnormalities, shape, draws)
        lesions = [replace(x, instances=enlarge(x.instances, self.grid)) for x in scan.lesions]
        hu, organs, tubes = (enlarge(x, self.grid) for x in (scan.hu, scan.organs, scan.tubes))
        return replace(scan, hu=hu, organs=organs, tubes=tubes, lesions=tuple(lesions))


def enlarge(array: Any, grid: Grid) -> Any:
    """Take for each voxel of the grid the voxel of the array at its place."""
    for axis, size in enumerate(grid):
        array = np.take(array, np.arange(size) * array.shape[axis] // size, axis)
    return array
