"""Where and how precisely to compute: environment variables, never parameters.

UVLM_DEVICE     auto (default), cpu, cuda, cuda:N or mps
UVLM_PRECISION  32-true or bf16-mixed; default: bf16-mixed on CUDA, and on CPUs that multiply bf16
                (AMX, AVX-512) for convolutions and wide matrices
UVLM_WORKERS    CPU threads; default: all
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Literal, cast

import torch

from uvlm.errors import ConfigError, SetupError

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


def set_threads(processes: int = 1) -> None:
    """Give torch the CPU threads of UVLM_WORKERS, or this process's share of all."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = int(os.environ.get("UVLM_WORKERS") or max(1, (cores or 1) // processes))
    torch.set_num_threads(threads)
