"""Where a downloaded Qwen3 lies: the folder that UVLM_QWEN3 names.

    config.json  tokenizer.json  model.safetensors, or model-0000i-of-0000n.safetensors

Nothing is fetched from here, and a folder whose weights are pickles only is refused.
"""

from __future__ import annotations

from pathlib import Path

from uvlm.environment import QWEN3
from uvlm.errors import SetupError


def qwen_folder() -> Path:
    """Return the folder of UVLM_QWEN3."""
    return QWEN3.needed(
        "download Qwen/Qwen3-4B and export the variable with its folder",
        "is not set, but decoder.kind or tokenizer.kind asks for Qwen3",
    )


def qwen_file(name: str) -> Path:
    """Return a file of that folder, which must be there."""
    path = qwen_folder() / name
    if not path.is_file():
        raise SetupError(path, "no such file", f"let {QWEN3.name} name a folder of Qwen3")
    return path


def qwen_weights() -> list[Path]:
    """List the weights files of that folder, by name."""
    folder = qwen_folder()
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise SetupError(
            folder,
            "holds no .safetensors; weights in pickles are not read",
            f"let {QWEN3.name} name a folder of Qwen3 as published",
        )
    return paths
