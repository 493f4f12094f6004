"""The folder of a downloaded Qwen3, which UVLM_QWEN3 names.

    config.json  tokenizer.json  model.safetensors, or model-0000i-of-0000n.safetensors

Nothing is downloaded here, and a folder that holds its weights only as pickles is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from uvlm.environment import QWEN3
from uvlm.errors import SetupError

_REMEDY: Final = f"set {QWEN3.name} to a folder of Qwen3 as published"


def qwen_file(name: str) -> Path:
    """Return a file of that folder, which must exist."""
    path = _folder() / name
    if not path.is_file():
        raise SetupError(path, "no such file", _REMEDY)
    return path


def qwen_weights() -> list[Path]:
    """List the weights files of that folder, by name."""
    if not (paths := sorted(_folder().glob("*.safetensors"))):
        fact = "holds no .safetensors; weights in pickles are not read"
        raise SetupError(_folder(), fact, _REMEDY)
    return paths


def _folder() -> Path:
    fact = "is not set, but decoder.kind or tokenizer.kind requires Qwen3"
    return QWEN3.needed("download Qwen/Qwen3-4B and set the variable to its folder", fact)
