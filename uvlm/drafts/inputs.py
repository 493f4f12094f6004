"""Which CTs `predict` was given, how each is called, and where its draft goes.

one CT                        --out itself
several, or with --batch      --out/ct-<salted id>, with --name-sources --out/<name of the file>
TABLE.csv                     a CT in each row: column `ct`, else the first; paths are relative
to the table; column `id` names the case with --name-sources
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uvlm.data.ct.archive import is_zip, unpacked
from uvlm.data.ct.find import files_below, without_suffix
from uvlm.data.ct.origin import salted_id
from uvlm.errors import ConfigError, DataError
from uvlm.tables import read_table

_COLUMN: Final = "ct"
_ID_COLUMN: Final = "id"
_DIGITS: Final = 12
_PARTS_OF_PATHS: Final = ("", ".", "..")


@dataclass(frozen=True)
class CtInput:
    """A CT that was asked for.

    Args:
        number: from 1, in the order in which they were named.
        path: as it was named.
        case_id: salted, or with real names as the user calls it.
        folder: of its draft.
    """

    number: int
    path: Path
    case_id: str
    folder: Path

    @property
    def who(self) -> str:
        """How lines about it call it."""
        return f"CT {self.number} ({self.case_id})"


def inputs_of(cts: Sequence[Path], out: Path, *, names: bool, batch: bool) -> list[CtInput]:
    """List the CTs and give each a case id and a folder.

    Raises:
        DataError: a table cannot be read or names no CT.
        ConfigError: two CTs are the same, or have the same name.
    """
    named = [pair for ct in cts for pair in _expanded(ct)]
    in_folders = batch or len(named) > 1
    found: dict[str, CtInput] = {}
    places: dict[str, int] = {}
    for number, (path, own_id) in enumerate(named, start=1):
        real = os.path.realpath(path)
        if (other := places.setdefault(real, number)) != number:
            raise ConfigError(f"CT {number}", f"is the same as CT {other}", "name it once")
        case_id = (own_id or case_id_of(path)) if names else pseudonym(path)
        if case_id in found:
            fact = f"has the case id of CT {found[case_id].number}"
            raise ConfigError(f"CT {number}", fact, "leave out --name-sources, or name a table")
        if case_id in _PARTS_OF_PATHS or "/" in case_id or "\0" in case_id:
            raise ConfigError(f"CT {number}", "has an id that cannot name a folder", "correct it")
        found[case_id] = CtInput(number, path, case_id, out / case_id if in_folders else out)
    return list(found.values())


def pseudonym(path: Path) -> str:
    """Call a CT by a salted id of where it is."""
    return f"ct-{salted_id(os.path.realpath(path), digits=_DIGITS)}"


def case_id_of(ct: Path) -> str:
    """Return the name of the folder, or of the file without its ending."""
    ct = ct if ct.name else ct.resolve()  # "." has no name
    name = without_suffix(ct.name) or ct.name
    return name[: -len(".zip")] or name if name.lower().endswith(".zip") else name


@contextmanager
def opened(path: Path) -> Iterator[tuple[Path, bool]]:
    """Yield where a CT can be read, and whether it was in a zip, which is unpacked until then."""
    if is_zip(path):
        with unpacked(path) as folder:
            yield folder, True
    else:
        yield path, False


def signature(path: Path) -> list[list[object]]:
    """List the files of a CT by name, size and time: what is the same need not be read again."""
    files = list(files_below(path)) if path.is_dir() else [path]
    stats = [(str(file), file.stat()) for file in files]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def _expanded(ct: Path) -> list[tuple[Path, str]]:
    """Turn a table into its CTs with their ids; anything else is a CT."""
    if ct.suffix.lower() != ".csv" or ct.is_dir():
        return [(ct, "")]
    table = read_table(ct)
    if not table.rows:
        raise DataError(ct, "names no CT", "write a path in each row below the header")
    column = _COLUMN if _COLUMN in table.columns else table.columns[0]
    empty = [row.place for row in table.rows if not row.values[column].strip()]
    if empty:
        fact = f"has no path in column {column!r}: {', '.join(empty[:5])}"
        raise DataError(ct, fact, "write the path of a CT in each row")
    return [
        (ct.parent / row.values[column].strip(), row.values.get(_ID_COLUMN, "").strip())
        for row in table.rows
    ]
