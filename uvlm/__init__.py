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

_HOMES = {
    "ConfigError": "uvlm.errors",
    "DataError": "uvlm.errors",
    "Interrupted": "uvlm.errors",
    "LabelMap": "uvlm.data.ct.volume",
    "Params": "uvlm.config",
    "Predictor": "uvlm.inference.predictor",
    "Report": "uvlm.text.report",
    "SetupError": "uvlm.errors",
    "UvlmError": "uvlm.errors",
    "Volume": "uvlm.data.ct.volume",
    "load_params": "uvlm.config",
    "read_volume": "uvlm.data.ct.io",
    "write_label_map": "uvlm.data.ct.io",
}

__all__ = [
    "ConfigError",
    "DataError",
    "Interrupted",
    "LabelMap",
    "Params",
    "Predictor",
    "Report",
    "SetupError",
    "UvlmError",
    "Volume",
    "__version__",
    "load_params",
    "read_volume",
    "write_label_map",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
