"""What the pipeline asks of a data set: its files, its cases, and an outside count of its rows.

`files` is always the download manifest, by path inside the data set's root.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar, Protocol

from uvlm.config import MappedCases
from uvlm.data.cases import Case
from uvlm.data.sets.survey import Survey
from uvlm.errors import DataError
from uvlm.files import file_sha256, key_of, store_root
from uvlm.store import CaseProgress, Refusal, Row, resolve
from uvlm.tables import read_table

Files = Mapping[str, Row]
Label = Callable[[Sequence[str]], Sequence[Sequence[int]]]  # report texts to flags


@dataclass(frozen=True)
class Masks:
    """Masks that a set publishes beside its CTs and that can serve as pseudo-labels.

    Args:
        backend: what params.yaml calls them.
        version: of the masks.
        licence: of the masks.
        paths: maps a case and a kind of label to its files, relative to the store, by the id of
            the structure drawn in each; 0 for a file that holds all ids.
        names: pairs of a kind and what `Case.mask_sha256` calls its mask.
    """

    backend: str
    version: str
    licence: str
    paths: Callable[[Case, str], dict[int, str]]
    names: tuple[tuple[str, str], ...] = ()


class DataSet(Protocol):
    """One data set, made from its section of params.yaml and the seed."""

    facts: ClassVar[Mapping[str, int]] = {}  # published numbers, reported beside the index's own
    masks: ClassVar[Masks | None] = None

    def for_label_maps(self, cases: MappedCases) -> DataSet:
        """Restrict the anatomy masks that `fetch` fetches to the cases that get a label map."""
        return self

    def fetch(
        self, manifest: Path, label: Label, progress: CaseProgress | None = None, code: str = ""
    ) -> None:
        """Put what is missing into the store and write the manifest.

        Args:
            manifest: where to write; the `case` of a row is a path inside the data set.
            label: labels reports; called only if the set's tables have no labels.
            progress: called as the download advances.
            code: digest of the stage's code, for sets that are made here rather than fetched.
        """
        ...

    def survey(self, progress: CaseProgress | None = None) -> Survey | None:
        """Count what `fetch` will bring, from tables alone; None if the set has none to read."""
        return None

    def cases(self, files: Files) -> tuple[list[Case], list[Refusal]]:
        """Join tables and CTs; every id ends as a case ("train" or "test") or as a refusal.

        A refusal is by design if its reason is in `selection.EXCLUSIONS`, otherwise a fault.
        """
        ...

    def rows_by_table(self, files: Files) -> dict[str, list[str]]:
        """List the case of every row of every table, and of every CT.

        This reads names only, independently of `cases`: the index checks one against the other.
        """
        ...

    def remarks(self, files: Files) -> list[str]:
        """Say in a line each what a person should know of the download besides its manifest."""
        return []

    def lesion_parts(self, files: Files) -> dict[str, str]:
        """Map each volume of a lesion set to its part (train, val, test)."""
        return {}


def table_path(files: Files, name: str) -> Path:
    """Find a table that the set requires."""
    if name not in files:
        raise DataError(name, "is not in the data set", "run `dvc repro -f -s download`")
    return resolve(files[name], "download")


def column_by_table(files: Files, column: str) -> dict[str, list[str]]:
    """Read one column of every CSV table of the set, by the name of the table."""
    cells: dict[str, list[str]] = {}
    for path, file in files.items():
        if path.endswith(".csv"):
            rows = read_table(resolve(file, "download"), (column,)).rows
            cells.setdefault(PurePosixPath(path).name, []).extend(r.values[column] for r in rows)
    return cells


def local_row(case: str, path: Path, source: str, sha256: str = "") -> Row:
    """Make the manifest row of a file that was made or copied here."""
    sha256 = sha256 or file_sha256(path)
    inside = path.relative_to(store_root()).as_posix()
    return Row(case, key_of("download", source, sha256), inside, sha256, source)
