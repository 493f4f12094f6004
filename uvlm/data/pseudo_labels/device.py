"""Where networks that label compute: UVLM_DEVICE is auto (default), cpu, cuda, cuda:N or mps."""

from __future__ import annotations

import os
import re

from uvlm.errors import ConfigError, SetupError


def torch_device() -> str:
    """Name torch's device; `auto` prefers CUDA."""
    import torch

    name = os.environ.get("UVLM_DEVICE") or "auto"
    has_cuda = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if has_cuda else "cpu"
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise ConfigError("UVLM_DEVICE", f"{name} is no device", "use auto, cpu, cuda or mps")
    is_there = {"cuda": has_cuda, "mps": torch.backends.mps.is_available(), "cpu": True}
    if not is_there[name.partition(":")[0]]:
        raise SetupError("UVLM_DEVICE", f"{name} is not available here", "use auto or cpu")
    return name
