"""What a data set is to the pipeline: how to get it, its cases, and its rows counted from outside.

`files` is always the download manifest, by path inside the data set's root.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar, Protocol

from uvlm.data.cases import Case
from uvlm.errors import DataError
from uvlm.files import file_sha256, key_of, store_root
from uvlm.store import CaseProgress, Refusal, Row, resolve
from uvlm.tables import read_table

Files = Mapping[str, Row]
Label = Callable[[Sequence[str]], Sequence[Sequence[int]]]  # report texts to flags


@dataclass(frozen=True)
class Masks:
    """What a set publishes beside its CTs that can serve as pseudo-labels.

    Args:
        backend: what params.yaml calls them.
        version: of the masks.
        licence: of the masks.
        paths: where those of a case and a kind of label lie, relative to the store, by the id of
            the structure that is drawn in each; 0 where one file holds all ids.
        names: pairs of a kind and what `Case.mask_sha256` calls its mask.
    """

    backend: str
    version: str
    licence: str
    paths: Callable[[Case, str], dict[int, str]]
    names: tuple[tuple[str, str], ...] = ()


class DataSet(Protocol):
    """One data set; it is made from its section of params.yaml and the seed."""

    facts: ClassVar[Mapping[str, int]] = {}  # numbers to read beside those of the index
    masks: ClassVar[Masks | None] = None

    def fetch(
        self,
        manifest: Path,
        label: Label,
        progress: CaseProgress | None = None,
        code: str = "",
    ) -> None:
        """Put what is missing into the store and write the manifest.

        Args:
            manifest: its `case` is the path in the data set.
            label: labels reports; only asked by a set whose tables have no labels.
            progress: told how far it is.
            code: digest of the stage's code; what a set makes here is held against it.
        """
        ...

    def cases(self, files: Files) -> tuple[list[Case], list[Refusal]]:
        """Join tables and CTs; every id ends as a case ("train" or "test") or as a refusal.

        A refusal whose reason is one of `selection.EXCLUSIONS` is by design, all others are faults.
        """
        ...

    def rows_by_table(self, files: Files) -> dict[str, list[str]]:
        """List the case of every row of every table, and of every CT.

        By names only, whatever `cases` makes of the rows: the index counts one against the other.
        """
        ...

    def lesion_parts(self, files: Files) -> dict[str, str]:
        """Say which part (train, val, test) of a lesion set each of its volumes belongs to."""
        return {}


def table_path(files: Files, name: str) -> Path:
    """Find a table that the set cannot do without."""
    if name not in files:
        raise DataError(name, "is not in the data set", "run `dvc repro -f -s download`")
    return resolve(files[name], "download")


def column_by_table(files: Files, column: str) -> dict[str, list[str]]:
    """Read one column of every CSV table of the set, by the table's name."""
    cells: dict[str, list[str]] = {}
    for path, file in files.items():
        if path.endswith(".csv"):
            rows = read_table(resolve(file, "download"), (column,)).rows
            cells.setdefault(PurePosixPath(path).name, []).extend(r.values[column] for r in rows)
    return cells


def local_row(case: str, path: Path, source: str, sha256: str = "") -> Row:
    """Name a file that was made or copied here in the manifest."""
    sha256 = sha256 or file_sha256(path)
    inside = path.relative_to(store_root()).as_posix()
    return Row(case, key_of("download", source, sha256), inside, sha256, source)
