"""Where and how precisely to compute: environment variables, never parameters.

UVLM_DEVICE     auto (default), cpu, cuda, cuda:N or mps
UVLM_PRECISION  32-true or bf16-mixed; default: bf16-mixed on CUDA, and on CPUs that multiply bf16
                (AMX, AVX-512) for convolutions and wide matrices
UVLM_WORKERS    CPU threads; default: all
UVLM_STRATEGY   how several processes share a training that allows it: ddp (default) keeps all
                weights on each, fsdp2 spreads weights, gradients and optimiser over them
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import nn

from uvlm.errors import ConfigError, SetupError
from uvlm.model.fast_norm import use_group_norms
from uvlm.processes import is_srun, place

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import Strategy

Precision = Literal["32-true", "bf16-mixed"]
NARROW = 256
_PATIENCE = timedelta(hours=12)


def choose_device() -> torch.device:
    """Return the device of UVLM_DEVICE; `auto` prefers CUDA, then MPS, then the CPU."""
    name = os.environ.get("UVLM_DEVICE") or "auto"
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next((kind for kind, found in available.items() if found), "cpu"))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError("UVLM_DEVICE", f"{name} is no device", "use auto, cpu, cuda") from None
    if not available.get(device.type, device.type == "cpu"):
        raise SetupError("UVLM_DEVICE", f"{name} is not available here", "use auto or cpu")
    return device


def choose_precision(device: torch.device, width: int | None = None) -> Precision:
    """bf16 where the hardware multiplies it fast, else fp32; UVLM_PRECISION overrides.

    Args:
        device: where to compute.
        width: of the matrices, for a network without convolutions; on a CPU the casts of narrow
            ones cost more than their products save.
    """
    name = os.environ.get("UVLM_PRECISION")
    if name and name not in ("32-true", "bf16-mixed"):
        raise ConfigError("UVLM_PRECISION", f"{name} is unknown", "use 32-true or bf16-mixed")
    if name:
        return cast(Precision, name)
    is_wide = width is None or width >= NARROW
    fast = device.type == "cuda" or (device.type == "cpu" and is_wide and _cpu_multiplies_bf16())
    return "bf16-mixed" if fast else "32-true"


def _cpu_multiplies_bf16() -> bool:
    """Tell whether the CPU has AMX tiles or AVX-512's bf16 dot product."""
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def autocast(device: torch.device, width: int | None = None) -> AbstractContextManager[object]:
    """Apply the precision of this device to inference, as a context."""
    enabled = choose_precision(device, width) == "bf16-mixed"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def ready(network: nn.Module, device: torch.device) -> None:
    """Bring a convolutional network that will not be trained to the device, laid out for speed."""
    network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if device.type == "cpu" and choose_precision(device) == "bf16-mixed":
        use_group_norms(network)


def set_threads(processes: int = 1) -> None:
    """Give torch the CPU threads of UVLM_WORKERS, or this process's share of all."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = int(os.environ.get("UVLM_WORKERS") or max(1, (cores or 1) // processes))
    torch.set_num_threads(threads)


def launch(width: int | None = None, *, may_shard: bool = False) -> Fabric:
    """Lightning Fabric for this process and those that torchrun or srun started beside it.

    Args:
        width: of a network without convolutions, see `choose_precision`.
        may_shard: the caller shards its model (see `uvlm.train.sharding`) if UVLM_STRATEGY says so.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment

    here = place()
    set_threads(here.local_size)
    device = choose_device()
    if device.index is not None and here.world_size > 1:
        raise ConfigError(
            "UVLM_DEVICE", f"{device} is one of {here.local_size} processes' devices", "use cuda"
        )
    alone = here.world_size == 1
    fabric = Fabric(
        accelerator=device.type,
        devices=[device.index] if device.index is not None else here.local_size,
        num_nodes=here.num_nodes,
        precision=choose_precision(device, width),
        strategy="auto" if alone else _strategy(choose_strategy() if may_shard else "ddp"),
        # Fabric takes any batch script of SLURM for srun, and would wait for processes in vain.
        plugins=None
        if is_srun() or "TORCHELASTIC_RUN_ID" in os.environ
        else LightningEnvironment(),
    )
    fabric.launch()
    return fabric


def choose_strategy() -> Literal["ddp", "fsdp2"]:
    """Read UVLM_STRATEGY."""
    name = os.environ.get("UVLM_STRATEGY") or "ddp"
    if name not in ("ddp", "fsdp2"):
        raise ConfigError("UVLM_STRATEGY", f"{name} is unknown", "use ddp or fsdp2")
    return cast(Literal["ddp", "fsdp2"], name)


def _strategy(name: Literal["ddp", "fsdp2"]) -> Strategy:
    """Set up what joins the processes; they wait long, for the first one validates alone."""
    from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy

    if name == "ddp":
        # A network may have outputs that no loss asks for, such as the lower resolutions.
        return DDPStrategy(timeout=_PATIENCE, find_unused_parameters=True)
    size = place().world_size
    return ModelParallelStrategy(
        lambda module, mesh: module, size, tensor_parallel_size=1, timeout=_PATIENCE
    )
