"""FSDP2: weights, gradients and optimiser sharded over several processes, whole when needed.

The network is sharded layer by layer, so only one layer is whole at a time. Without sharding these
functions make plain copies; with it, all processes must call them, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from uvlm.model.weights import weights_of

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def shard(fabric: Fabric, network: nn.Module) -> None:
    """Shard the weights of a network in place, if Fabric was launched for that.

    Build the optimiser afterwards, over the shards.
    """
    from lightning_fabric.strategies import ModelParallelStrategy

    if not isinstance(fabric.strategy, ModelParallelStrategy):
        return
    mesh = fabric.strategy.device_mesh["data_parallel"]
    half = torch.bfloat16 if fabric.strategy.precision.precision == "bf16-mixed" else None
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32)
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    layers = [layer for module in lists for layer in module]
    parts: list[Any] = [fully_shard(part, mesh=mesh, mp_policy=policy) for part in layers]
    whole: Any = fully_shard(network, mesh=mesh, mp_policy=policy)
    # Fix what backward prefetches. By default FSDP2 follows the order of the forward passes it saw,
    # but the process that validates sees more of them than the others.
    for part, fetched in zip([*parts, whole], [whole, *parts], strict=True):
        part.set_modules_to_backward_prefetch([fetched])


def whole_weights(module: nn.Module) -> dict[str, Tensor]:
    """Copy the weights to the CPU, each once, as `weights_of` names them."""
    if not is_sharded(module):
        return {name: whole_copy(tensor) for name, tensor in weights_of(module).items()}
    first = _first_names(module)
    state = module.state_dict()
    return {k: whole_copy(v) for k, v in state.items() if first.get(k, k) == k}


def whole_copy(tensor: Tensor) -> Tensor:
    """Copy to the CPU: contiguous, sharing no memory, all shards put together."""
    tensor = tensor.detach()
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.to("cpu", copy=True, memory_format=torch.contiguous_format)


def laid_out_as(value: Tensor, like: Tensor) -> Tensor:
    """Give `value` the memory layout, or the sharding, of `like`; its own dtype stays."""
    if isinstance(like, DTensor):
        device = like.device_mesh.device_type
        return distribute_tensor(value.to(device), like.device_mesh, like.placements)
    return torch.empty_like(like, dtype=value.dtype).copy_(value)


def spread(state: Mapping[str, Tensor], module: nn.Module) -> Mapping[str, Tensor]:
    """Shard the tensors of a whole state as `module` is sharded, ready for `load_weights`."""
    if not is_sharded(module):
        return state
    first = _first_names(module)
    own = {k: v for k, v in module.state_dict().items() if first.get(k, k) in state}
    return {k: laid_out_as(state[first.get(k, k)], like) for k, like in own.items()}


def is_sharded(module: nn.Module) -> bool:
    """Tell whether any parameter is sharded over several processes."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def local_bytes(tensor: Tensor) -> int:
    """Count the bytes that this process holds of a tensor."""
    return int((tensor.to_local() if isinstance(tensor, DTensor) else tensor).nbytes)


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Keep all weights whole on every process, so that one of them can compute alone."""
    parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    yield
    for part in parts:
        part.reshard()
        # As FSDP2 sets it up: the root, needed again at once in backward, stays whole.
        part.set_reshard_after_forward(part is not parts[0], recurse=False)


def _first_names(module: nn.Module) -> dict[str, str]:
    """Map each name of a parameter to its first name: tied weights have several."""
    first: dict[int, str] = {}
    named = module.named_parameters(remove_duplicate=False)
    return {name: first.setdefault(id(parameter), name) for name, parameter in named}
