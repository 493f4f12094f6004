"""Which patients are fetched, and the record by which the index knows what was not.

Fewer patients are always the first of more: a larger number adds to what is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Final

from uvlm.config import HubConfig, Patients
from uvlm.data.sets.dataset import Files, local_row
from uvlm.errors import ConfigError, DataError
from uvlm.files import key_of, store_root, write_json_atomic
from uvlm.store import Row, resolve

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
RECORD: Final = "selection.json"


@dataclass(frozen=True)
class Selection:
    """The wanted cases, None for all, and the reason why others are left out, by case."""

    wanted: frozenset[str] | None = None
    excluded: Mapping[str, str] = field(default_factory=dict)

    def reason(self, case_id: str) -> str:
        """Say why a case is left out by design; empty when it is not."""
        if case_id in self.excluded:
            return self.excluded[case_id]
        return "" if self.wanted is None or case_id in self.wanted else NOT_SELECTED

    def keep(self) -> Row:
        """Write the record by which the index knows it, and name that in the manifest."""
        wanted = sorted(self.wanted or [])
        record = {"wanted": wanted, "excluded": dict(sorted(self.excluded.items()))}
        path = store_root() / "raw" / "selections" / f"{key_of('selection', record)}.json"
        write_json_atomic(path, record)
        return local_row(RECORD, path, "params")


def read_selection(files: Files) -> Selection:
    """Read the record of a download; sets without one (phantoms) are wanted whole."""
    if RECORD not in files:
        return Selection()
    path = resolve(files[RECORD], "download")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Selection(frozenset(document["wanted"]), dict(document["excluded"]))
    except (ValueError, KeyError, TypeError) as error:
        fact = f"not a record of a selection ({error!r})"
        raise DataError(path, fact, "run `dvc repro -f -s download`") from None


def choose(patients: Sequence[str], choice: Patients, name: str) -> set[str]:
    """Choose patients: all, the first so many in the order given, or these.

    Raises:
        ConfigError: a chosen patient is not in the data set.
    """
    if choice is None:
        return set(patients)
    if isinstance(choice, int):
        return set(patients[:choice])
    unknown = sorted(set(choice) - set(patients))
    if unknown:
        raise ConfigError(name, f"{unknown[0]} is no patient of this part", "correct the list")
    return set(choice)


def excluded_by_user(
    config: HubConfig, names_by_case: Mapping[str, Iterable[str]]
) -> dict[str, str]:
    """Find the cases that `exclude` names, by any of their names.

    Args:
        config: reads `exclude`.
        names_by_case: all that each case is called: volume, scan, patient, files.

    Raises:
        ConfigError: a name fits no case, so it would exclude nothing.
    """
    listed = set(config.exclude)
    found = {case: listed & set(names) for case, names in names_by_case.items()}
    unknown = sorted(listed.difference(*found.values())) if found else sorted(listed)
    if unknown:
        raise ConfigError("download.*.exclude", f"{unknown[0]} fits no volume", "correct the name")
    return {case: EXCLUDED for case, names in found.items() if names}


@cache
def documented(dataset: str) -> Mapping[str, str]:
    """Look up the volumes known to be unusable: reason by case id."""
    path = files("uvlm.data.sets").joinpath(dataset, "exclusions.json")
    lists: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return {case: reason for reason, cases in lists.items() for case in cases}
