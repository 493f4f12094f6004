"""Where and how precisely to compute, as environment variables say, never parameters."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, cast

import torch

from uvlm import environment
from uvlm.errors import SetupError
from uvlm.processes import own_cores

Precision = Literal["32-true", "bf16-mixed"]
NARROW = 256


def choose_device(*, avoid: str = "") -> torch.device:
    """Return the device of UVLM_DEVICE; `auto` prefers CUDA, then MPS, then the CPU.

    Args:
        avoid: a type of device that `auto` skips.

    Raises:
        SetupError: this computer has no such device.
    """
    name = environment.DEVICE.read()
    count = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    if name == "auto":
        return torch.device(next(kind for kind, found in count.items() if found and kind != avoid))
    kind, _, index = name.partition(":")
    if int(index or 0) >= count[kind]:  # checked here because torch takes cuda:256 for cuda:0
        fact = f"{name} is not available here"
        raise SetupError(environment.DEVICE.name, fact, "use auto or cpu")
    return torch.device(name)


def choose_device_of_published() -> torch.device:
    """Choose a device for published networks, none of which was ever tried on MPS."""
    return choose_device(avoid="mps")


def choose_precision(device: torch.device, width: int | None = None) -> Precision:
    """Choose bf16 where the hardware multiplies it fast, else fp32; UVLM_PRECISION overrides.

    Args:
        device: where to compute.
        width: of the matrices, for a network without convolutions; on a CPU, casting narrow ones
            costs more than multiplying them saves.
    """
    if name := environment.PRECISION.read():
        return cast(Precision, name)
    is_wide = width is None or width >= NARROW
    fast = device.type == "cuda" or (device.type == "cpu" and is_wide and _cpu_multiplies_bf16())
    return "bf16-mixed" if fast else "32-true"


def _cpu_multiplies_bf16() -> bool:
    """Tell whether the CPU has AMX tiles or AVX-512's bf16 dot product."""
    # Private functions of torch, which another version may not have.
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def autocast(device: torch.device, width: int | None = None) -> AbstractContextManager[object]:
    """Return a context in which inference has the precision of this device."""
    enabled = choose_precision(device, width) == "bf16-mixed"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def is_tuned(name: Literal["cudnn", "compile", "norms"]) -> bool:
    """Tell whether UVLM_TUNING has this."""
    return name in environment.TUNING.read()


def set_threads() -> None:
    """Let torch use UVLM_THREADS CPU threads, by default this process's share of the cores."""
    torch.set_num_threads(environment.THREADS.read() or own_cores())
