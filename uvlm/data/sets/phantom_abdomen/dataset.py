"""The data set `phantom_abdomen`: AbdomenAtlas in miniature, written from a seed.

Paths, names and columns are AbdomenAtlas', so the pipeline reads it with that set's adapter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from uvlm.config import AbdomenPhantomConfig
from uvlm.data.sets.abdomen_atlas import layout
from uvlm.data.sets.abdomen_atlas.cases import MASKS as ATLAS_MASKS
from uvlm.data.sets.abdomen_atlas.cases import AtlasLayout
from uvlm.data.sets.abdomen_atlas.tables import COUNTS, ID
from uvlm.data.sets.ct_rate.tables import csv_text
from uvlm.data.sets.dataset import Label
from uvlm.data.sets.phantom.written import Member, Record, Written, expected, write_set
from uvlm.data.sets.phantom_abdomen.patient import write_patient
from uvlm.data.sets.survey import Survey
from uvlm.errors import ConfigError
from uvlm.files import write_text_atomic
from uvlm.store import CaseProgress
from uvlm.text.abnormalities import ABDOMEN_LESIONS

FORMAT_VERSION = 1
MASKS: Final = replace(ATLAS_MASKS, backend="phantom_abdomen", version="1", licence="Apache-2.0")
_COLUMNS: Final = (ID, "spacing", "shape", *COUNTS, "structured report")


@dataclass(frozen=True)
class AbdomenPhantoms(AtlasLayout):
    """Written from a seed, not fetched."""

    config: AbdomenPhantomConfig
    seed: int
    masks: ClassVar = MASKS

    @property
    def report(self) -> str:
        """The one kind of report that is written."""
        return "structured"

    def __post_init__(self) -> None:
        if set(self.config.present) != set(ABDOMEN_LESIONS):
            fact = f"names {', '.join(self.config.present) or 'nothing'}"
            remedy = f"name {', '.join(ABDOMEN_LESIONS)}"
            raise ConfigError("download.phantom_abdomen.present", fact, remedy)

    def fetch(
        self, manifest: Path, label: Label, progress: CaseProgress | None = None, code: str = ""
    ) -> None:
        """Write the phantoms."""
        constant = "FORMAT_VERSION in uvlm/data/sets/phantom_abdomen/dataset.py"
        made_by = Written("phantom_abdomen", FORMAT_VERSION, constant, self.seed, self.config)
        write = partial(write_patient, self.config, self.seed)
        tables = partial(_write_tables, self.config.train_patients)
        write_set(made_by, members(self.config), write, tables, manifest, progress, code)

    def survey(self, progress: CaseProgress | None = None) -> Survey:
        """Expect what the parameters say; nothing is fetched."""
        return expected(self.config)


def members(config: AbdomenPhantomConfig) -> list[Member]:
    """List all patients: first those of the training part, then those of the test part."""
    number = config.train_patients + config.test_patients
    return [Member(f"BDMAP_{i:08d}", None) for i in range(1, number + 1)]


def _write_tables(num_train: int, root: Path, records: Sequence[Record]) -> list[tuple[str, str]]:
    """Write the table of the set and the two lists of its official split."""
    ids = [[record["case"]] for record in records]
    tables = {
        layout.TABLE: csv_text(_COLUMNS, map(_row, records)),
        layout.TRAIN_IDS: csv_text((ID,), ids[:num_train]),
        layout.TEST_IDS: csv_text((ID,), ids[num_train:]),
    }
    written = []
    for name, text in tables.items():
        path = f"{layout.PREFIX}/{name}"
        write_text_atomic(root / path, text)
        written.append((path, hashlib.sha256(text.encode()).hexdigest()))
    return written


def _row(record: Record) -> list[object]:
    counts = [record["counts"][kind] for kind in ABDOMEN_LESIONS]
    spacing, shape = str(record["spacing"]), str(record["shape"])
    return [record["case"], spacing, shape, *counts, record["report"]]
