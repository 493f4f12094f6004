"""Count what a GPU would be told to do: operations, and those that make the host wait for it.

On meta tensors the very code that runs on a GPU runs here, at any size, in no memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# The shape or the value of their result is known only after the host has read from the device.
_READS = (
    "_local_scalar_dense", "bincount", "equal", "histc", "is_nonzero", "item", "masked_select",
    "nonzero", "nonzero_static", "repeat_interleave", "_unique", "_unique2", "unique_dim",
    "unique_consecutive",
)  # fmt: skip


class Operations(TorchDispatchMode):
    """Operations dispatched in this context, views included, by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count: Counter[str] = Counter()
        self.host_reads: list[str] = []
        self.layout_copies: list[str] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run one operation and count it."""
        name = str(func).split(".")[1]
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        self.count[name] += 1
        if name in _READS or _has_mask_as_index(name, args) or _moves(tensors, result):
            self.host_reads.append(name)
        if name in ("clone", "_to_copy") and _layout(tensors[0]) != _layout(result):
            self.layout_copies.append(name)
        return result


def _has_mask_as_index(name: str, args: Sequence[Any]) -> bool:
    """Tell whether an index is boolean: how many elements it picks is on the device."""
    if name not in ("index", "index_put", "index_put_"):
        return False
    return any(index is not None and index.dtype == torch.bool for index in args[1])


def _moves(tensors: Sequence[Tensor], result: Any) -> bool:
    """Tell whether numbers go from one device to another."""
    devices = {t.device for t in [*tensors, *tree_leaves(result)] if isinstance(t, Tensor)}
    return len(devices) > 1


def _layout(tensor: Tensor) -> str:
    if tensor.dim() != 5 or tensor.is_contiguous():
        return "contiguous"
    return str(tensor.is_contiguous(memory_format=torch.channels_last_3d))
