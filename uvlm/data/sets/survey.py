"""What a data set will hold, from its tables and from sizes that the hub publishes: no CT is read.

A hub is asked for the sizes of at most a few hundred files of a kind, spread over the list; the sum
over all is then an estimate, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from uvlm.config import Grid

ASKED_OF_A_KIND: Final = 300


@dataclass(frozen=True)
class Expected:
    """A case to come: its official part, whether its findings are drawn, its abnormalities."""

    case_id: str
    split: str  # "train" or "test"
    is_drawn: bool
    flags: Sequence[int]


@dataclass(frozen=True)
class FileKind:
    """Files of one kind; if fewer were asked for than there are, the bytes are an estimate."""

    name: str
    count: int
    num_bytes: int
    asked: int

    @property
    def is_estimate(self) -> bool:
        """Whether the sizes of some of the files are not known."""
        return self.asked < self.count


@dataclass(frozen=True)
class Survey:
    """Cases, files and the largest grid (z, y, x) that the tables name; None if they name none."""

    cases: Sequence[Expected]
    files: Sequence[FileKind]
    largest: Grid | None = None


def spread(paths: Sequence[str], most: int = ASKED_OF_A_KIND) -> list[str]:
    """Choose at most so many from all over a list."""
    count = len(paths)
    return [paths[i * count // most] for i in range(most)] if count > most else list(paths)


def kind_of(name: str, count: int, sizes: Sequence[int]) -> FileKind:
    """Extrapolate from the sizes that are known."""
    total = round(sum(sizes) * count / len(sizes)) if sizes else 0
    return FileKind(name, count, total, len(sizes))
