"""What tells one set of phantoms from another: who is ill with what, how it looks, what is said."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from uvlm.config import PhantomConfig
from uvlm.data.sets.phantom.anatomy import Body
from uvlm.data.sets.phantom.reports import PlantedFinding, ReportText, write_report
from uvlm.data.sets.phantom.scan import Scan, draw_scan
from uvlm.text.abnormalities import ABNORMALITIES


class Disease(Protocol):
    """The three draws of a scan, in this order and from one stream."""

    config: Any  # a PatientsConfig, and what the disease itself needs

    @abstractmethod
    def draw(self, draws: np.random.Generator) -> list[str]:
        """Draw which abnormalities a scan shows, in the order of ABNORMALITIES."""

    @abstractmethod
    def paint(
        self,
        body: Body,
        abnormalities: Sequence[str],
        shape: tuple[int, int, int],
        draws: np.random.Generator,
    ) -> Scan:
        """Paint a body with these abnormalities on a grid of `shape` (D, H, W)."""

    @abstractmethod
    def write(self, findings: Sequence[PlantedFinding], draws: np.random.Generator) -> ReportText:
        """Write the report of what was painted."""


@dataclass(frozen=True)
class EasyDisease(Disease):
    """The default: independent, equally frequent, large enough, and always mentioned."""

    config: PhantomConfig

    def draw(self, draws: np.random.Generator) -> list[str]:
        return [name for name in ABNORMALITIES if draws.random() < self.config.prevalence]

    def paint(
        self,
        body: Body,
        abnormalities: Sequence[str],
        shape: tuple[int, int, int],
        draws: np.random.Generator,
    ) -> Scan:
        return draw_scan(body, abnormalities, shape, draws)

    def write(self, findings: Sequence[PlantedFinding], draws: np.random.Generator) -> ReportText:
        return write_report(findings, draws)
