"""Run networks on tensors without numbers; count the bytes they would hold and their arithmetic.

The very code that trains runs here, operation by operation, on fake tensors: they have a shape, a
type and a size, and no memory. So the count follows every change of a network by itself, and the
paper's sizes take a second.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry


class Held(TorchDispatchMode):
    """Bytes of the storages that are alive, `now`, and the most that ever were, `peak`.

    `flop` counts additions and multiplications of convolutions and matrix products, as torch does.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self.flop = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run one operation and note what it allocated and computed."""
        result = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(getattr(func, "overloadpacket", None))) is not None:
            self.flop += count(*args, **(kwargs or {}), out_val=result)
        for value in tree_iter(result):
            if isinstance(value, Tensor):
                self._note(value.untyped_storage())
        return result

    def _note(self, storage: Any) -> None:
        if storage in self._known:  # a view
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size


@contextmanager
def imagined() -> Iterator[Held]:
    """Allocate nothing in this context; yields what would be held."""
    with FakeTensorMode(), Held() as held, torch.random.fork_rng(devices=[]):
        yield held
