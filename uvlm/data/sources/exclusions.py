"""What is left out of a published set by design: counted by reason, never a fault of the data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

NO_CHEST: Final = "no_chest"
NOT_SELECTED: Final = "not_selected"
EXCLUDED: Final = "excluded"
# Every reason, and what it says about a volume.
EXCLUSIONS: Final[Mapping[str, str]] = {
    NO_CHEST: "is on the data set's own list of volumes that show no chest",
    "nan_spacing": "has a z spacing that is not a number, and no anatomy masks",
    "not_on_hub": "is named in the data set's tables but is not on the hub",
    EXCLUDED: "is named in download.*.exclude",
    NOT_SELECTED: "is not among the patients and reconstructions that params.yaml chooses",
}


@cache
def documented(dataset: str) -> Mapping[str, str]:
    """Look up the volumes known to be unusable: reason by case id."""
    path = files("uvlm.data.sources").joinpath("exclusions", f"{dataset}.json")
    lists: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return {case: reason for reason, cases in lists.items() for case in cases}
