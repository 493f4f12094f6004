"""What the text headers of NRRD and MetaImage share: lines and fields, read without guessing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NoReturn

from uvlm.data.ct.formats.stored import AGAIN, CONVERT
from uvlm.data.ct.volume import ReadError

_MAX_LINE_BYTES: Final = 65_536
_MAX_LINES: Final = 1_000


@dataclass(frozen=True)
class Fields:
    """The fields of one header, by lower-case name."""

    path: Path
    values: Mapping[str, str]

    def text(self, name: str) -> str:
        """Give a field that has to be there."""
        if name not in self.values:
            fact = f"has no field {name!r} in its header"
            raise ReadError(self.path, fact, CONVERT, reason="header")
        return self.values[name]

    def floats(self, name: str, count: int) -> list[float]:
        """Give a field of `count` numbers divided by blanks."""
        try:
            numbers = [float(part) for part in self.text(name).split()]
        except ValueError:
            numbers = []
        if len(numbers) != count:
            self.refuse(name)
        return numbers

    def integers(self, name: str, count: int) -> list[int]:
        """Give a field of `count` whole numbers divided by blanks."""
        parts = self.text(name).split()
        if len(parts) != count or not all(part.isascii() and part.isdigit() for part in parts):
            self.refuse(name)
        return [int(part[:18]) for part in parts]

    def choice(self, name: str, default: str, *choices: str) -> str:
        """Give a field that holds one of a few words, in lower case."""
        word = self.values.get(name, default).lower()
        if word not in choices:
            self.refuse(name)
        return word

    def refuse(self, name: str) -> NoReturn:
        """Say that a field does not hold what it should."""
        fact = f"has the field {name!r} with {self.text(name)[:60]!r}"
        raise ReadError(self.path, fact, AGAIN, reason="header")


def header_lines(file: BinaryIO, path: Path) -> Iterator[str]:
    """Read lines until the caller has enough; the position is then right behind the last one."""
    for _ in range(_MAX_LINES):
        line = file.readline(_MAX_LINE_BYTES)
        if not line.endswith(b"\n"):
            break
        yield line.decode("utf-8", "replace").rstrip("\r\n")
    raise ReadError(path, "is cut off inside its header", AGAIN, reason="truncated_header")


def add_field(values: dict[str, str], name: str, text: str, path: Path) -> None:
    """Note a field; two of one name would be a choice."""
    name = name.strip().lower()
    if name in values:
        fact = f"has the field {name!r} twice in its header"
        raise ReadError(path, fact, AGAIN, reason="header")
    values[name] = text.strip()


def refuse_detached(path: Path) -> NoReturn:
    """Say that the voxels lie in another file, which nothing ties to this one."""
    raise ReadError(
        path,
        "holds only a header; its voxels lie in another file",
        "convert the pair to one file, .nii.gz, .nrrd or .mha",
        reason="detached",
    )
