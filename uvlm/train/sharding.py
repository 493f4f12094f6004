"""Tensors that are spread over processes (FSDP2): whole again on the CPU, and spread again.

Without sharding every function is a plain copy. With it, all processes must call, in one order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def whole_copy(tensor: Tensor) -> Tensor:
    """Copy to the CPU, contiguous, free of shared memory, all shards put together."""
    tensor = tensor.detach()
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.cpu().clone(memory_format=torch.contiguous_format)


def laid_out_as(value: Tensor, like: Tensor) -> Tensor:
    """Give `value` the memory layout, or the shards, of `like`; its own dtype stays."""
    if isinstance(like, DTensor):
        device = like.device_mesh.device_type
        return distribute_tensor(value.to(device), like.device_mesh, like.placements)
    return torch.empty_like(like, dtype=value.dtype).copy_(value)


def spread(state: Mapping[str, Tensor], module: nn.Module) -> Mapping[str, Tensor]:
    """Give the whole tensors of a state the shards of `module`, if it has any."""
    if not is_sharded(module):
        return state
    own = module.state_dict()
    return {k: laid_out_as(v, own[k]) if isinstance(own.get(k), DTensor) else v
            for k, v in state.items()}  # fmt: skip


def is_sharded(module: nn.Module) -> bool:
    """Tell whether any of the parameters lives in pieces on several processes."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Hold all weights whole on every process, so that one of them may compute alone."""
    parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    yield
    for part in parts:
        part.reshard()
        part.set_reshard_after_forward(part is not parts[0], recurse=False)
