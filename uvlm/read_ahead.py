"""Reading while a network computes: processes prepare what comes next, and it arrives in order.

Trainings, validations, `encode` and `generate` read through this one loader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from uvlm.environment import LOADERS
from uvlm.errors import SetupError, UvlmError
from uvlm.processes import own_cores

Item = TypeVar("Item")
# Each keeps two batches ready, 100 MB apiece in stage 2; an A100 is fed by four.
_MOST_LOADERS: Final = 16


def num_loaders(device_type: str) -> int:
    """Choose how many processes read ahead: none on a CPU, whose cores are busy computing."""
    chosen = LOADERS.read()
    if chosen is not None:
        return chosen
    return 0 if device_type == "cpu" else min(_MOST_LOADERS, own_cores())


def read_ahead(
    read: Callable[[Item], Any], items: Iterable[Item], device: torch.device
) -> Iterator[Any]:
    """Yield `read(item)` of every item, in order, prepared in processes of their own.

    Arrays arrive as tensors, in pinned memory for a GPU. Items are drawn only as far ahead as they
    are read. A UvlmError of `read` is raised here as it was there.
    """
    loaders = num_loaders(device.type)
    loader: DataLoader[Any] = DataLoader(
        _Read(read),
        batch_size=None,
        sampler=items,
        num_workers=loaders,
        pin_memory=device.type == "cuda",
    )
    prepared = iter(loader)
    while True:
        try:
            result = next(prepared)
        except StopIteration:
            return
        except RuntimeError as error:
            if loaders and str(error).startswith("DataLoader worker"):
                raise _lost(loaders) from None
            raise
        if isinstance(result, UvlmError):
            raise result
        yield result


class _Read(Dataset[Any]):
    """What `read` makes of an item, which stands in the place of its index."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self.read = read

    def __getitem__(self, item: Any) -> Any:
        try:
            return self.read(item)
        except UvlmError as error:
            # Raised in a process, it would come back as a RuntimeError full of its traceback.
            return error


def _lost(loaders: int) -> SetupError:
    """Explain the death of a process, whose reason torch does not know."""
    fact = f"one of {loaders} processes that read ahead was killed, probably for lack of memory"
    return SetupError(LOADERS.name, fact, f"set it to {loaders // 2}, or enlarge /dev/shm")
