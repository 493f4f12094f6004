"""From the backend that params.yaml names to its implementation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from uvlm.config import BackendConfig, LabelKind
from uvlm.data.labels.pseudo.atm22 import Atm22
from uvlm.data.labels.pseudo.backend import Backend
from uvlm.data.labels.pseudo.masks import VesselMasks
from uvlm.data.labels.pseudo.published import NoLabels, PublishedMasks
from uvlm.data.labels.pseudo.totalsegmentator import TotalSegmentator
from uvlm.data.sets.abdomen_atlas import cases as abdomen_atlas
from uvlm.data.sets.ct_rate import cases as ct_rate
from uvlm.data.sets.phantom import dataset as phantom
from uvlm.data.sets.phantom_abdomen import dataset as phantom_abdomen
from uvlm.errors import ConfigError

BACKENDS: Final[Mapping[LabelKind, Mapping[str, Callable[[Any], Backend]]]] = {
    "anatomy": {
        "totalsegmentator": lambda config: TotalSegmentator("total", config.fast),
        "ct_rate_masks": lambda _: PublishedMasks(ct_rate.MASKS, "anatomy"),
        "abdomen_atlas_masks": lambda _: PublishedMasks(abdomen_atlas.MASKS, "anatomy"),
        "phantom": lambda _: PublishedMasks(phantom.MASKS, "anatomy"),
        "phantom_abdomen": lambda _: PublishedMasks(phantom_abdomen.MASKS, "anatomy"),
        "none": lambda _: NoLabels(),
    },
    "airway": {
        "totalsegmentator": lambda _: TotalSegmentator("lung_vessels"),
        "atm22": lambda config: Atm22(config.spacing_mm),
        "phantom": lambda _: PublishedMasks(phantom.MASKS, "airway"),
        "none": lambda _: NoLabels(),
    },
    "vessel": {
        "totalsegmentator": lambda _: TotalSegmentator("lung_vessels"),
        "masks": lambda config: VesselMasks(config.artery_id, config.vein_id),
        "phantom": lambda _: PublishedMasks(phantom.MASKS, "vessel"),
        "none": lambda _: NoLabels(),
    },
}


def choose_backend(kind: LabelKind, config: BackendConfig) -> Backend:
    """Make the backend that a section of params.yaml names."""
    known = BACKENDS[kind]
    if config.backend not in known:
        fact, remedy = f"there is no backend {config.backend}", f"use {', '.join(sorted(known))}"
        raise ConfigError(f"pseudo_label.{kind}.backend", fact, remedy)
    return known[config.backend](config)
