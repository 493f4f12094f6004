"""Check what is stored against code that has changed since.

Keys hold parameters and a version that people raise by hand, so that editing a comment does not
make terabytes again. The price: an edit that does change results could be forgotten. So when a
stage's code has a digest that was not noted before, the first, the middle and the last stored case
that can still be made are made again, in memory, and compared.

<store>/code/<stage>/<key of version and settings>/<digest of the code>   its stored cases are equal

One file per digest, so that workspaces and jobs that share a store need no lock to add one.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar

from uvlm.errors import DataError, ReadError
from uvlm.files import key_of, store_root, write_bytes_atomic


class OfCase(Protocol):
    """Anything that belongs to one case."""

    @property
    def case_id(self) -> str:
        """Name the case."""


Item = TypeVar("Item", bound=OfCase)
Result = TypeVar("Result")


class Kept(ABC, Generic[Item]):
    """What a stage keeps of each case."""

    stage: ClassVar[str]

    @property
    @abstractmethod
    def constant(self) -> str:
        """Name the version that people raise by hand; most have it as a class attribute."""

    @property
    @abstractmethod
    def settings(self) -> object:
        """Return the version and whatever else decides the results, as JSON values."""

    @abstractmethod
    def is_stored(self, item: Item) -> bool:
        """Whether the store has this case."""

    @abstractmethod
    def difference(self, item: Item) -> tuple[str, str] | None:
        """Make a stored case again and compare; the store stays as it is.

        Returns:
            What has changed, and the constant to raise for it; None when nothing has.

        Raises:
            DataError: its inputs are gone.
        """


def guarded(
    kept: Kept[Item],
    items: Sequence[Item],
    code: str,
    work: Callable[[], Iterable[tuple[Result, bool]]],
) -> list[Result]:
    """Check the code before a stage makes what is missing, and note it once that is stored.

    Args:
        kept: what the stage makes.
        items: every case of the stage.
        code: digest of the stage's code; if empty, nothing is checked.
        work: makes every case; returns its result, and whether the case was found in the store.
    """
    is_checked = check(kept, items, code)
    outcomes = list(work())
    # Another process, perhaps of other code, may have stored these after the check.
    found = [item for item, (_, is_found) in zip(items, outcomes, strict=True) if is_found]
    if not is_checked and (not found or any(_compare(kept, found))):
        _note(kept, code)
    return [result for result, _ in outcomes]


def check(kept: Kept[Item], items: Sequence[Item], code: str) -> bool:
    """Compare stored cases with what this code makes of them, unless that has been done.

    Returns:
        Whether the code is known to make what is stored; False if there was nothing to compare.

    Raises:
        DataError: it makes something else.
    """
    if not code or _noted(kept, code).exists():
        return True
    outcomes = _compare(kept, items)
    if any(outcomes):
        _note(kept, code)
    elif outcomes:
        fact = "the code has changed and no stored case has its inputs any more"
        sys.stderr.write(f"{kept.stage}: {fact}; nothing is compared\n")
    return any(outcomes)


def _compare(kept: Kept[Item], items: Sequence[Item]) -> list[bool]:
    """Make one stored case again from the start, one from the middle and one from the end.

    Returns:
        For each stored case that was tried, whether it could be compared.
    """
    outcomes: dict[str, bool] = {}
    for some in (items, items[len(items) // 2 :], items[::-1]):
        for item in filter(kept.is_stored, some):
            if item.case_id not in outcomes:
                outcomes[item.case_id] = _is_comparable(kept, item)
            if outcomes[item.case_id]:
                break
        if not any(outcomes.values()):
            break  # the first pass has tried every stored case in vain
    return list(outcomes.values())


def _is_comparable(kept: Kept[Item], item: Item) -> bool:
    """Compare one case; False when it can no longer be made."""
    try:
        difference = kept.difference(item)
    except ReadError as error:
        if error.reason == "missing_file":
            return False
        difference = (f"it refuses {error}", kept.constant)
    except DataError:  # what an earlier stage stored is gone
        return False
    if difference is not None:
        what, constant = difference
        fact = f"the changed code of {kept.stage} does not make what is stored: {what}"
        remedy = f"raise {constant} if that was meant (every case is made again), or undo the edit"
        raise DataError(item.case_id, fact, remedy)
    return True


def _noted(kept: Kept[Item], code: str) -> Path:
    return store_root() / "code" / kept.stage / key_of(kept.settings) / code


def _note(kept: Kept[Item], code: str) -> None:
    with suppress(OSError):  # a read-only store is compared again each time
        write_bytes_atomic(_noted(kept, code), b"", durable=False)
