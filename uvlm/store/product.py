"""What a stage makes: one array per case with a note beside it, found again by a key."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from uvlm.arrays import Array
from uvlm.errors import ReadError
from uvlm.store.arrays import array_path, load_array, read_note
from uvlm.store.changed_code import Item, Kept
from uvlm.store.manifest import Row

if TYPE_CHECKING:
    import torch

Made = tuple[Array, Mapping[str, Any]]
# Another device sums in another order. With an untrained network, whose classes are nearly tied,
# bf16 alone against bf16 in a batch moves 0.4 % of the labels, bf16 against fp32 0.7 %.
NETWORKS_MAY_DIFFER: Final = 0.01
# Of the array's standard deviation: bf16 against fp32 leaves 0.05 % of the tokens further apart.
_ROUNDING: Final = 0.05


@dataclass(frozen=True)
class Product(Kept[Item]):
    """Arrays below `root`, the store; picklable."""

    root: Path
    note_constant: ClassVar[str] = ""  # what to raise when only the note differs

    @property
    def title(self) -> str:
        """Name the stage for people."""
        return self.stage

    @property
    def may_differ(self) -> float:
        """Return the share of the non-zero values that may differ on another machine."""
        return 0.0

    @abstractmethod
    def key(self, item: Item) -> str:
        """Hash everything that decides the result of a case."""

    @abstractmethod
    def make(self, item: Item) -> Made:
        """Make the array and its note; ReadError leaves the case out."""

    @abstractmethod
    def row(self, item: Item, key: str, path: str, note: Mapping[str, Any]) -> Row:
        """Return the manifest row of a stored case; `note` has the array's `sha256`."""

    def path(self, item: Item) -> Path:
        """Return the path of a case's array."""
        return self.root / array_path(self.stage, self.key(item))

    def is_stored(self, item: Item) -> bool:
        """Whether the store has this case."""
        try:
            return read_note(self.path(item)) is not None
        except ReadError:  # a file that its key is made from is gone
            return False

    def difference(self, item: Item) -> tuple[str, str] | None:
        """Make a stored case again and compare; see `Kept`."""
        array, told = self.make(item)
        if fact := difference(load_array(self.path(item)), array, self.may_differ):
            return fact, self.constant
        again = json.loads(json.dumps(told))  # tuples become lists, as in the stored note
        stored = read_note(self.path(item)) or {}
        differ = {name for name in stored | again if stored.get(name) != again.get(name)}
        names = sorted(differ - {"sha256"})
        fact = f"{', '.join(names)} beside its array"
        return (fact, self.note_constant or self.constant) if names else None


class BatchProduct(Product[Item]):
    """Arrays that a network makes faster several at a time.

    The last bits may depend on the batch. Where they end up in the array, a batch that lacks a case
    is made `as_a_whole`, so that an interrupted run ends with the same bytes.
    """

    as_a_whole: ClassVar[bool] = False
    device: torch.device

    @property
    def may_differ(self) -> float:
        """Allow for rounding on another device, which moves a border here and there."""
        return NETWORKS_MAY_DIFFER

    @abstractmethod
    def read(self, items: Sequence[Item]) -> Sequence[Any]:
        """Read what the arrays of some cases are made from, possibly in another process."""

    @abstractmethod
    def make_several(self, items: Sequence[Item], inputs: Sequence[Any]) -> Iterable[Array]:
        """Make the arrays of some cases from what was read of each; they have no notes."""

    def make(self, item: Item) -> Made:
        """Make one array."""
        return next(iter(self.make_several([item], self.read([item])))), {}


def difference(stored: Array, again: Array, may_differ: float) -> str:
    """Describe how a remade array differs from the stored one; an empty string if it does not.

    Args:
        stored: whole numbers are compared exactly, others to a fraction of their spread.
        again: the same case, made now.
        may_differ: share of the values that are not 0 in at least one of the two.
    """
    if (stored.shape, stored.dtype) != (again.shape, again.dtype):
        return f"{again.dtype} {again.shape} instead of {stored.dtype} {stored.shape}"
    off = stored != again
    if np.issubdtype(stored.dtype, np.floating):
        slack = _ROUNDING * float(np.std(stored, dtype=np.float64))
        off = ~(np.abs(stored.astype(np.float32) - again) <= slack)  # so that NaN is off
    count = int(np.count_nonzero(off))
    if count <= may_differ * np.count_nonzero((stored != 0) | (again != 0)):
        return ""
    return f"{count:,} of {off.size:,} values differ"
