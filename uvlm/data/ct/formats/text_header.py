"""What the text headers of NRRD and MetaImage share: lines and fields, read without guessing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

import numpy as np

from uvlm.arrays import Array
from uvlm.data.ct.formats.stored import AGAIN, Layout, refuse_size, rewriting
from uvlm.data.ct.grid_rules import REWRITE
from uvlm.data.ct.volume import ReadError

_MAX_LINE_BYTES: Final = 65_536
_MILLIMETRES: Final = ("mm", "millimeter", "millimeters", "millimetre", "", "?", "???")
_MAX_LINES: Final = 1_000
_MAX_AXES: Final = 16
_MAX_NUMBER: Final = 40
_MAX_DIGITS: Final = 18  # more would take long to convert and is refused as a size anyway


@dataclass(frozen=True)
class Fields:
    """The fields of one header, by lower-case name."""

    path: Path
    values: Mapping[str, str]

    def text(self, name: str) -> str:
        """Read a required field."""
        if name not in self.values:
            fact = f"has no field {name!r} in its header"
            raise ReadError(self.path, fact, REWRITE, reason="header")
        return self.values[name]

    def floats(self, name: str, count: int) -> list[float]:
        """Read a field of `count` numbers separated by blanks."""
        try:
            numbers = [float(part) for part in self.text(name).split()]
        except ValueError:
            numbers = []
        if len(numbers) != count:
            self.refuse(name)
        return numbers

    def integers(self, name: str, count: int) -> list[int]:
        """Read a field of `count` whole numbers separated by blanks."""
        parts = self.text(name).split()
        if len(parts) != count or not all(part.isascii() and part.isdigit() for part in parts):
            self.refuse(name)
        return [int(part[:_MAX_DIGITS]) for part in parts]

    def choice(self, name: str, default: str, *choices: str) -> str:
        """Read a field that holds one of a few words, in lower case."""
        word = self.values.get(name, default).lower()
        if word not in choices:
            self.refuse(name)
        return word

    def yes(self, name: str) -> bool:
        """Read a field that is true or false, by default false."""
        return self.choice(name, "false", "true", "false", "1", "0") in ("true", "1")

    def layout(self, dimension: str, lengths: str, dtype: np.dtype[Any]) -> Layout:
        """Read the shape from the fields of these names."""
        (count,) = self.integers(dimension, 1)
        shape = tuple(self.integers(lengths, min(count, _MAX_AXES)))
        return Layout.checked(shape, dtype, self.path)

    def refuse(self, name: str) -> NoReturn:
        """Refuse a field that does not hold what it should."""
        fact = f"has the field {name!r} with {self.text(name)[:60]!r}"
        raise ReadError(self.path, fact, AGAIN, reason="header")

    def refuse_unread(self, name: str) -> NoReturn:
        """Refuse a field that holds what the format allows and this reader does not read."""
        fact = f"has the field {name!r} with {self.text(name)[:60]!r}, which is not read here"
        raise ReadError(self.path, fact, rewriting(self.path), reason="header")

    def check_unit(self, name: str, text: str) -> None:
        """Refuse lengths that are not in millimetres; an unknown unit says nothing."""
        if text.strip().lower() not in _MILLIMETRES:
            fact = f"states its lengths in {text[:20]!r} (field {name!r})"
            raise ReadError(self.path, fact, "write it in millimetres", reason="spacing")


def header_lines(file: BinaryIO, path: Path) -> Iterator[str]:
    """Read lines until the caller has enough; the file is then positioned behind the last one."""
    for _ in range(_MAX_LINES):
        line = file.readline(_MAX_LINE_BYTES)
        if not line.endswith(b"\n"):
            break
        yield line.decode("utf-8", "replace").rstrip("\r\n")
    raise ReadError(path, "is cut off inside its header", AGAIN, reason="truncated_header")


def add_field(values: dict[str, str], name: str, text: str, path: Path) -> None:
    """Add a field; with two of one name we would have to choose."""
    name = name.strip().lower()
    if name in values:
        fact = f"has the field {name!r} twice in its header"
        raise ReadError(path, fact, AGAIN, reason="header")
    values[name] = text.strip()


def refuse_detached(path: Path) -> NoReturn:
    """Refuse a header whose voxels are in other files: nothing ties them together."""
    fact = "holds only a header; its voxels are in other files"
    raise ReadError(path, fact, rewriting(path), reason="detached")


def read_numbers(file: BinaryIO, layout: Layout, path: Path) -> Array:
    """Read voxels that are written as text, all of them and nothing else."""
    words, count = file.read().split(), math.prod(layout.shape)
    is_whole = layout.dtype.kind in "iu"
    try:
        if max(map(len, words), default=0) > _MAX_NUMBER:  # an array has room for the longest
            raise ValueError
        numbers = np.array(words, bytes).astype(np.int64 if is_whole else np.float64)
        with np.errstate(over="ignore"):  # infinite then, which is refused
            voxels = numbers.astype(layout.dtype)
        if is_whole and not np.array_equal(voxels, numbers):
            raise OverflowError
    except (ValueError, OverflowError):
        fact = f"has voxels that are not numbers of the type {layout.dtype.name}"
        raise ReadError(path, fact, AGAIN, reason="header") from None
    if len(words) != count:
        refuse_size(path, layout.num_bytes, f"{len(words)} numbers of {count}")
    return voxels.reshape(layout.shape[::-1])
