"""Where and how precisely to compute: environment variables, never parameters.

UVLM_DEVICE     auto (default), cpu, cuda, cuda:N or mps
UVLM_PRECISION  32-true or bf16-mixed; default: bf16-mixed on CUDA, and on CPUs that multiply bf16
                (AMX, AVX-512) for convolutions and wide matrices
UVLM_WORKERS    CPU threads; default: all
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import nn

from uvlm.errors import ConfigError, SetupError
from uvlm.model.fast_norm import use_group_norms

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Precision = Literal["32-true", "bf16-mixed"]
NARROW = 256


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


def set_threads() -> None:
    """Give torch the CPU threads of UVLM_WORKERS, or all that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(int(os.environ.get("UVLM_WORKERS") or cores or 1))


def launch(width: int | None = None) -> Fabric:
    """Lightning Fabric for this process; under torchrun one process per GPU.

    `width` is that of a network without convolutions, see `choose_precision`.
    """
    from lightning_fabric import Fabric

    set_threads()
    device = choose_device()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = max(1, int(os.environ.get("WORLD_SIZE", "1")) // local)
    devices: int | list[int] = [device.index] if device.index is not None else local
    fabric = Fabric(
        accelerator=device.type,
        devices=devices,
        num_nodes=nodes,
        precision=choose_precision(device, width),
    )
    fabric.launch()
    return fabric
