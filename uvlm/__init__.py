"""U-VLM: hierarchical vision-language modelling for CT reports, after arXiv:2603.00479.

Names are loaded on first use, so that `import uvlm` stays instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uvlm.config import Params, load_params
    from uvlm.data.ct.io import read_volume, write_label_map
    from uvlm.data.ct.volume import LabelMap, Volume
    from uvlm.errors import ConfigError, DataError, Interrupted, SetupError, UvlmError
    from uvlm.inference.predictor import Predictor
    from uvlm.text.report import Report

__version__ = "0.1.0"

_NAMES = {
    "uvlm.config": ("Params", "load_params"),
    "uvlm.data.ct.io": ("read_volume", "write_label_map"),
    "uvlm.data.ct.volume": ("LabelMap", "Volume"),
    "uvlm.errors": ("ConfigError", "DataError", "Interrupted", "SetupError", "UvlmError"),
    "uvlm.inference.predictor": ("Predictor",),
    "uvlm.text.report": ("Report",),
}

__all__ = [
    "ConfigError", "DataError", "Interrupted", "LabelMap", "Params", "Predictor", "Report",
    "SetupError", "UvlmError", "Volume", "__version__", "load_params", "read_volume",
    "write_label_map",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for module, names in _NAMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
