"""The data set `longtail`: phantoms in CT-RATE's layout whose reports are as hard as CT-RATE's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from uvlm import store
from uvlm.config import LongtailConfig
from uvlm.data.sets.ct_rate.cases import CtRateLayout
from uvlm.data.sets.dataset import Label
from uvlm.data.sets.longtail.disease import Longtail
from uvlm.data.sets.phantom.dataset import MASKS, write_patients
from uvlm.data.sets.phantom.written import Written, expected
from uvlm.data.sets.survey import Survey

FORMAT_VERSION = 1


@dataclass(frozen=True)
class LongtailPhantoms(CtRateLayout):
    """Written from a seed, not fetched."""

    config: LongtailConfig
    seed: int
    masks: ClassVar = MASKS

    def __post_init__(self) -> None:
        Longtail(self.config)  # refuses names that it does not know before anything is written

    def fetch(
        self,
        manifest: Path,
        label: Label,
        progress: store.CaseProgress | None = None,
        code: str = "",
    ) -> None:
        """Write the phantoms."""
        constant = "FORMAT_VERSION in uvlm/data/sets/longtail/dataset.py"
        made_by = Written("longtail", FORMAT_VERSION, constant, self.seed, self.config)
        write_patients(made_by, Longtail(self.config), manifest, progress, code)

    def survey(self, progress: store.CaseProgress | None = None) -> Survey:
        """Expect what the parameters say; nothing is fetched."""
        return expected(self.config)
