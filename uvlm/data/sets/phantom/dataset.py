"""The phantom data set: CT-RATE and ReXGroundingCT in miniature, written from a seed.

Paths, file names, columns and JSON keys are those of the real sets, so the pipeline reads phantoms
with its adapters for CT-RATE. Volumes come in mixed orientations and spacings; some
patients have two scans, some scans two reconstructions. Four planted defects (a truncated gzip, a
volume with NaN, a duplicate id, an empty report) must be quarantined by name.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from uvlm import store
from uvlm.config import PatientsConfig, PhantomConfig
from uvlm.data.sets.ct_rate.cases import MASKS as CT_RATE_MASKS
from uvlm.data.sets.ct_rate.cases import CtRateLayout
from uvlm.data.sets.dataset import Label
from uvlm.data.sets.phantom.disease import Disease, EasyDisease
from uvlm.data.sets.phantom.patient import DEFECTS, write_patient
from uvlm.data.sets.phantom.tables import write_tables
from uvlm.data.sets.phantom.written import Member, Record, Written, expected, write_set
from uvlm.data.sets.survey import Survey

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

    def survey(self, progress: store.CaseProgress | None = None) -> Survey:
        """Expect what the parameters say; nothing is fetched."""
        return expected(self.config)


def write_dataset(
    config: PhantomConfig,
    seed: int,
    manifest: Path,
    progress: store.CaseProgress | None = None,
    code: str = "",
) -> Path:
    """Write the default phantoms; see `write_set`."""
    constant = "FORMAT_VERSION in uvlm/data/sets/phantom/dataset.py"
    made_by = Written("phantom", FORMAT_VERSION, constant, seed, config)
    return write_patients(made_by, EasyDisease(config), manifest, progress, code)


def write_patients(
    made_by: Written,
    disease: Disease,
    manifest: Path,
    progress: store.CaseProgress | None = None,
    code: str = "",
) -> Path:
    """Write phantoms in CT-RATE's layout; see `write_set`."""
    write = partial(_write_patient, disease, made_by.seed)
    everyone = members(disease.config)
    return write_set(made_by, everyone, write, write_tables, manifest, progress, code)


def members(config: PatientsConfig) -> list[Member]:
    """List all patients; those with a planted defect come on top of the healthy ones."""
    train = [Member(f"train_{i}", None) for i in range(1, config.train_patients + 1)]
    test = [Member(f"valid_{i}", None) for i in range(1, config.test_patients + 1)]
    first = config.train_patients + 1
    broken = [Member(f"train_{i}", defect) for i, defect in enumerate(DEFECTS, start=first)]
    return train + test + (broken if config.defects else [])


def _write_patient(disease: Disease, seed: int, root: Path, member: Member) -> Record:
    return asdict(write_patient(root, *member, disease, seed))
