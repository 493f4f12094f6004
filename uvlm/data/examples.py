"""Cases joined with their cached arrays: what training and inference stages read.

(D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from uvlm.config import Grid, PreprocessConfig
from uvlm.data.cases import Case, Split, read_index
from uvlm.data.contract import contract_sha256, normalise
from uvlm.errors import DataError
from uvlm.seeding import generator
from uvlm.store import Row, load_array, resolve, rows_by_case

Item = TypeVar("Item")


@dataclass(frozen=True)
class Example:
    """One case with the files that hold its arrays; `statistics` are mean and deviation in HU."""

    case: Case
    volume: Path
    volume_sha256: str
    shape: Grid
    statistics: tuple[float, float]
    label_map: Path | None = None
    voxels_by_class: dict[int, int] = field(default_factory=dict)

    @property
    def case_id(self) -> str:
        """Name the case."""
        return self.case.case_id

    def voxels(self, config: PreprocessConfig) -> npt.NDArray[np.float32]:
        """Read the whole volume as network input."""
        return normalise(self.stored(), config, self.statistics)

    def stored(self) -> npt.NDArray[np.int16]:
        """Read the whole volume in Hounsfield units."""
        return load_array(self.volume, self.volume_sha256)


def read_examples(
    index: Path,
    preprocess: Path,
    config: PreprocessConfig,
    split: Split | None = None,
    label_maps: Path | None = None,
) -> list[Example]:
    """Read the cases that have all requested arrays, in case order.

    Args:
        index: manifest of the stage `index`.
        preprocess: manifest of the stage `preprocess`; must follow `config`.
        config: the preprocessing contract of this run.
        split: only this split; None takes all cases.
        label_maps: manifest of the stage `label_maps`; if given, only cases with a label map.

    Raises:
        DataError: nothing is left, the cache follows another contract, or bytes are missing.
    """
    volumes = rows_by_case(preprocess)
    check_cache_contract(preprocess, volumes.values(), config)
    maps = rows_by_case(label_maps) if label_maps else None
    there = volumes.keys() if maps is None else volumes.keys() & maps.keys()
    cases = [c for c in read_index(index) if c.case_id in there and split in (None, c.split)]
    if not cases:
        fact = f"no case of split {split or 'any'} has a preprocessed volume"
        fact += " and a label map" if maps is not None else ""
        remedy = "check data/manifests/quarantine and the split sizes of the profile"
        raise DataError(index, fact, remedy)
    return [_example(case, volumes[case.case_id], maps) for case in cases]


def choose_cases(cases: Sequence[Item], count: int, seed: int) -> list[Item]:
    """Draw at most `count` cases, always the same for a seed, and keep their order."""
    order = generator(seed, "choose_cases").permutation(len(cases))[:count]
    return [cases[i] for i in sorted(order)]


def of_other_patients(cases: Sequence[Case], seed: int) -> list[Case]:
    """Name for each case one of another patient, always the same for a seed: a negative control.

    Patients go round in a ring, drawn in random order, and each gets cases of the next. So how
    often anything occurs stays nearly as it is, and what a pair of image and report says is lost.

    Raises:
        DataError: there is one patient only.
    """
    by_patient: dict[str, list[Case]] = {}
    for case in cases:
        by_patient.setdefault(case.patient_id, []).append(case)
    if len(by_patient) < 2:
        raise DataError("shuffled cases", "are of one patient", "give the split more patients")
    ring = [list(by_patient)[i] for i in generator(seed, "ring").permutation(len(by_patient))]
    following = dict(zip(ring, [*ring[1:], ring[0]], strict=True))
    numbers = {case.case_id: n for own in by_patient.values() for n, case in enumerate(own)}
    given = []
    for case in cases:
        others = by_patient[following[case.patient_id]]
        given.append(others[numbers[case.case_id] % len(others)])
    return given


def check_cache_contract(manifest: Path, rows: Iterable[Row], config: PreprocessConfig) -> None:
    """Refuse volumes that were prepared differently from what params.yaml says."""
    expected = contract_sha256(config)
    for row in rows:
        found = row.extra.get("contract_sha256")
        if found != expected:
            contracts = f"contract {str(found)[:12]}, this run has {expected[:12]}"
            fact = f"case {row.case} was prepared under {contracts}"
            raise DataError(manifest, fact, "run `dvc repro preprocess`")


def _example(case: Case, volume: Row, maps: dict[str, Row] | None) -> Example:
    z, y, x = (int(size) for size in volume.extra["shape"])
    label_row = maps[case.case_id] if maps is not None else None
    counts = label_row.extra["voxels"] if label_row else {}
    return Example(
        case=case,
        volume=resolve(volume, "preprocess"),
        volume_sha256=volume.sha256,
        shape=(z, y, x),
        statistics=(float(volume.extra["mean"]), float(volume.extra["std"])),
        label_map=resolve(label_row, "label_maps") if label_row else None,
        voxels_by_class={int(class_id): int(count) for class_id, count in counts.items()},
    )
