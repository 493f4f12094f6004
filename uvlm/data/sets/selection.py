"""Which patients are fetched, and the record that tells the index what was left out.

A smaller number of patients is always a prefix of a larger one, so raising it only adds files.
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
# Every reason, and the fact that it states about a volume; both are stored.
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
    """The wanted cases (None: all), and the reason for leaving out others, by case."""

    wanted: frozenset[str] | None = None
    excluded: Mapping[str, str] = field(default_factory=dict)

    def reason(self, case_id: str) -> str:
        """Say why a case is left out by design; empty if it is not."""
        if case_id in self.excluded:
            return self.excluded[case_id]
        return "" if self.wanted is None or case_id in self.wanted else NOT_SELECTED

    def keep(self) -> Row:
        """Write the record for the index; returns its manifest row."""
        wanted = sorted(self.wanted or [])
        record = {"wanted": wanted, "excluded": dict(sorted(self.excluded.items()))}
        path = store_root() / "raw" / "selections" / f"{key_of('selection', record)}.json"
        write_json_atomic(path, record)
        return local_row(RECORD, path, "params")


def read_selection(files: Files) -> Selection:
    """Read the record of a download; without one (phantoms), the whole set is wanted."""
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
    """Choose patients: all, the first few in the given order, or those listed.

    Raises:
        ConfigError: a chosen patient is not in the data set.
    """
    if choice is None:
        return set(patients)
    if isinstance(choice, int):
        return set(patients[:choice])
    unknown = sorted(set(choice) - set(patients))
    if unknown:
        raise ConfigError(name, f"{unknown[0]} is not a patient of this part", "correct the list")
    return set(choice)


def excluded_by_user(
    config: HubConfig, names_by_case: Mapping[str, Iterable[str]]
) -> dict[str, str]:
    """Find the cases that `exclude` names, by any of their names.

    Args:
        config: its `exclude` counts.
        names_by_case: every name of each case: volume, scan, patient, files.

    Raises:
        ConfigError: a name matches no case and would exclude nothing.
    """
    listed = set(config.exclude)
    found = {case: listed & set(names) for case, names in names_by_case.items()}
    if unknown := sorted(listed.difference(*found.values())):
        fact = f"{unknown[0]} matches no volume"
        raise ConfigError("download.*.exclude", fact, "correct the name")
    return {case: EXCLUDED for case, names in found.items() if names}


@cache
def documented(dataset: str) -> Mapping[str, str]:
    """List the volumes known to be unusable: reason by case id."""
    path = files("uvlm.data.sets").joinpath(dataset, "exclusions.json")
    lists: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return {case: reason for reason, cases in lists.items() for case in cases}
