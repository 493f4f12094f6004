"""Manifests: which case became which bytes, and which case was refused and why.

A manifest is sorted JSON lines without times or absolute paths, so that the same inputs give the
same bytes on every machine.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from uvlm.errors import DataError
from uvlm.files import store_root, write_text_atomic

_ROW_FIELDS: Final = ("case", "key", "path", "sha256", "source")
_AGAIN: Final = "run `dvc repro` to make it again"


@dataclass(frozen=True)
class Row:
    """One case of a manifest; `path` is relative to the store, `extra` is the stage's own."""

    case: str
    key: str
    path: str
    sha256: str
    source: str
    extra: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the row as one flat object."""
        return {name: getattr(self, name) for name in _ROW_FIELDS} | self.extra

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Row:
        """Undo `to_json`; KeyError names a missing field."""
        known = {name: str(values[name]) for name in _ROW_FIELDS}
        return cls(**known, extra={k: v for k, v in values.items() if k not in known})


@dataclass(frozen=True)
class Refusal:
    """One case that a stage left out, and why; `reason` is a short slug to count by."""

    case: str
    file: str
    reason: str
    fact: str
    remedy: str


def write_manifest(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows, sorted by case."""
    ordered = sorted(rows, key=lambda row: row.case)
    write_text_atomic(path, _json_lines(row.to_json() for row in ordered))


def read_manifest(path: Path) -> list[Row]:
    """Read what `write_manifest` wrote; refuse a damaged or truncated manifest."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(path, "no such manifest", "run `dvc repro`") from None
    except UnicodeDecodeError as error:
        raise DataError(path, f"not UTF-8 ({error})", _AGAIN) from None
    if text and not text.endswith("\n"):
        raise DataError(path, "ends in the middle of a line", _AGAIN)
    lines = text.split("\n")[:-1]  # str.splitlines would also split inside report texts
    rows = [_parse_row(path, number, line) for number, line in enumerate(lines, 1)]
    twice = [case for case, count in Counter(row.case for row in rows).items() if count > 1]
    if twice:
        raise DataError(path, f"names case {twice[0]} twice", _AGAIN)
    return rows


def rows_by_case(path: Path) -> dict[str, Row]:
    """Read a manifest as a table of its rows by case."""
    return {row.case: row for row in read_manifest(path)}


def write_quarantine(path: Path, refusals: Iterable[Refusal]) -> None:
    """Write the refused cases; none are an empty line, because DVC warns of an empty file."""
    ordered = sorted(refusals, key=lambda refusal: (refusal.case, refusal.file, refusal.reason))
    write_text_atomic(path, _json_lines(map(asdict, ordered)) or "\n")


def read_quarantine(path: Path) -> list[Refusal]:
    """Read what `write_quarantine` wrote."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        return [Refusal(**json.loads(line)) for line in lines if line]
    except FileNotFoundError:
        raise DataError(path, "no such list", "run `dvc repro`") from None
    except (ValueError, TypeError) as error:
        raise DataError(path, f"not a quarantine list ({error})", _AGAIN) from None


def check_quarantine_share(stage: str, refused: int, total: int, limit: float) -> None:
    """Stop when so many cases were refused that the fault is hardly theirs."""
    if total and refused > limit * total:
        fact = f"{refused} of {total} cases were refused, more than the {limit:.0%} allowed"
        file = f"data/manifests/quarantine/{stage}.jsonl"
        raise DataError(f"stage {stage}", fact, f"see {file}, or raise index.max_quarantined_share")


def resolve(row: Row, stage: str) -> Path:
    """Find the file of a row in the store."""
    path = store_root() / row.path
    if not path.is_file():
        fact = f"{row.path} is not in the store {store_root()}"
        raise DataError(row.case, fact, f"make it again with `dvc repro -f -s {stage}`")
    return path


def _json_lines(documents: Iterable[Mapping[str, Any]]) -> str:
    dumps = partial(json.dumps, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return "".join(f"{dumps(document)}\n" for document in documents)


def _parse_row(path: Path, number: int, line: str) -> Row:
    try:
        return Row.from_json(json.loads(line))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}:{number}", f"not a manifest row ({error!r})", _AGAIN) from None
