"""The data sets that `download.source` can name; a new one adds its import and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from uvlm.config import Params
from uvlm.data.sets.abdomen_atlas.dataset import AbdomenAtlas
from uvlm.data.sets.ct_rate.dataset import CtRate
from uvlm.data.sets.dataset import DataSet
from uvlm.data.sets.longtail.dataset import LongtailPhantoms
from uvlm.data.sets.own.dataset import OwnData
from uvlm.data.sets.phantom.dataset import Phantoms
from uvlm.data.sets.phantom_abdomen.dataset import AbdomenPhantoms
from uvlm.errors import ConfigError

SETS: Final[Mapping[str, Callable[[Any, int], DataSet]]] = {
    "phantom": Phantoms,
    "ct_rate": CtRate,
    "abdomen_atlas": AbdomenAtlas,
    "folder": OwnData,
    "longtail": LongtailPhantoms,
    "phantom_abdomen": AbdomenPhantoms,
}


def choose_set(params: Params) -> DataSet:
    """Make the data set named by `download.source`."""
    source = params.download.source
    if source not in SETS:
        known = ", ".join(SETS)
        raise ConfigError("download.source", f"there is no data set {source}", f"use {known}")
    return SETS[source](params.download.section, params.seed)
