"""Who is ill with what in `longtail`: CT-RATE's prevalences, and findings that come together.

A scan has 18 normal numbers with the latent correlations of co_occurrence.json; an abnormality is
present where its number lies below the threshold of its prevalence (a Gaussian copula).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import fsum, sqrt
from statistics import NormalDist
from typing import Final

import numpy as np

from uvlm.config import LongtailConfig
from uvlm.data.sets.longtail.grammar import language
from uvlm.data.sets.longtail.painting import PAINTERS, Palette, heart_scale
from uvlm.data.sets.longtail.reports import write_report
from uvlm.data.sets.phantom.anatomy import Body, body_coordinates, paint_anatomy
from uvlm.data.sets.phantom.canvas import Planted
from uvlm.data.sets.phantom.disease import Disease
from uvlm.data.sets.phantom.reports import PlantedFinding, ReportText
from uvlm.data.sets.phantom.scan import NORMAL_HEART, Scan, draw_until_visible
from uvlm.errors import ConfigError
from uvlm.text.abnormalities import ABNORMALITIES

_CARDIOMEGALY: Final = "Cardiomegaly"
Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Longtail(Disease):
    """The 18 abnormalities as rare, as related, as small and as quietly reported as CT-RATE's."""

    config: LongtailConfig

    def __post_init__(self) -> None:
        for name in ("present", "denied"):
            _check_names(f"download.longtail.{name}", getattr(self.config, name))

    def draw(self, draws: np.random.Generator) -> list[str]:
        """Draw which abnormalities a scan shows."""
        normal = [float(number) for number in draws.standard_normal(len(ABNORMALITIES))]
        factor = _factor(self.config.co_occurrence)
        return [
            name
            for name, row in zip(ABNORMALITIES, factor, strict=True)
            if _dot(row, normal) < NormalDist().inv_cdf(self.config.present[name])
        ]

    def paint(
        self,
        body: Body,
        abnormalities: Sequence[str],
        shape: tuple[int, int, int],
        draws: np.random.Generator,
    ) -> Scan:
        """Paint a body and plant the abnormalities, each in at least one voxel that is seen."""
        coordinates, sizes = body_coordinates(body, shape), self.config.sizes

        def once() -> Scan:
            scale = float(draws.uniform(*NORMAL_HEART))
            planted = []
            if _CARDIOMEGALY in abnormalities:
                scale = heart_scale(float(draws.uniform(*sizes)))
                planted.append(Planted(PlantedFinding(_CARDIOMEGALY), ()))
            palette = Palette(draws, sizes, paint_anatomy(coordinates, scale))
            planted += [paint(palette) for name, paint in PAINTERS.items() if name in abnormalities]
            return Scan.of(palette.anatomy, planted)

        return draw_until_visible(once, abnormalities, least_voxels=1)

    def write(self, findings: Sequence[PlantedFinding], draws: np.random.Generator) -> ReportText:
        """Write the report of a scan."""
        words = language(self.config.wording)
        return write_report(findings, self.config.denied, words, draws)


@cache
def correlations() -> Rows:
    """Read the measured latent correlations, (18, 18), in the order of ABNORMALITIES."""
    path = files(__package__).joinpath("co_occurrence.json")
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    below = [rows.get(name, []) for name in ABNORMALITIES]
    size = range(len(ABNORMALITIES))
    return tuple(tuple(1.0 if i == j else below[max(i, j)][min(i, j)] for j in size) for i in size)


@cache
def _factor(strength: float) -> Rows:
    """Find the Cholesky factor of the correlations, those between two abnormalities scaled.

    In Python's own arithmetic, so that a seed gives the same patients with any BLAS.
    """
    factor: list[list[float]] = []
    for row in correlations():
        entries: list[float] = []
        for j, other in enumerate(factor):
            rest = strength * row[j] - _dot(entries, other)
            entries.append(rest / other[j])
        entries.append(sqrt(1.0 - _dot(entries, entries)))
        factor.append(entries)
    return tuple(map(tuple, factor))


def _dot(some: Sequence[float], others: Sequence[float]) -> float:
    """Sum the products of two lists as far as the shorter one goes."""
    return fsum(a * b for a, b in zip(some, others, strict=False))


def _check_names(subject: str, shares: Mapping[str, float]) -> None:
    """Refuse a table of shares that does not name each abnormality once."""
    if unknown := sorted(shares.keys() - set(ABNORMALITIES)):
        near = difflib.get_close_matches(unknown[0], ABNORMALITIES, n=1, cutoff=0.0)
        raise ConfigError(subject, f"{unknown[0]} is no abnormality", f"did you mean {near[0]}?")
    if lacking := [name for name in ABNORMALITIES if name not in shares]:
        raise ConfigError(subject, f"lacks {', '.join(lacking)}", "name all 18")
