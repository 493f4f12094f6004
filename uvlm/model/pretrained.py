"""The Qwen3 that a decoder starts from: its architecture, its weights, the digest of both.

The files are in the folder of UVLM_QWEN3. A model folder keeps the architecture and the digest
only, because an adapter needs exactly the weights that it was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uvlm.errors import ConfigError, DataError
from uvlm.files import files_sha256
from uvlm.qwen_folder import qwen_file, qwen_weights

SIZES = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
}


@dataclass(frozen=True)
class Pretrained:
    """Qwen3's config.json, and the sha256 over it and its weights."""

    architecture: dict[str, Any]
    sha256: str


@dataclass(frozen=True)
class QwenOrigin:
    """What a Qwen3 decoder is built from; without a folder its weights are loaded later."""

    pretrained: Pretrained
    folder: Path | None = None


def find_qwen() -> QwenOrigin:
    """Read architecture and digest of the folder of UVLM_QWEN3."""
    path = qwen_file("config.json")
    names = [file.name for file in (path, *qwen_weights())]
    pretrained = Pretrained(read_architecture(), files_sha256(path.parent, names))
    return QwenOrigin(pretrained, path.parent)


def read_architecture() -> dict[str, Any]:
    """Read config.json of the folder of UVLM_QWEN3, which must describe a Qwen3."""
    path = qwen_file("config.json")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(path, f"not readable as JSON ({error})", "download it again") from None
    kind = document.get("model_type") if isinstance(document, dict) else None
    if kind != "qwen3":
        raise DataError(path, f"model_type is {kind!r}, not 'qwen3'", "use a dense Qwen3")
    if document.get("use_sliding_window"):
        raise DataError(path, "use_sliding_window is on", "use a Qwen3 with full attention")
    return dict(document)


def qwen_trained_on(pretrained: Pretrained) -> QwenOrigin:
    """Find the Qwen3 that an adapter was trained on, and refuse any other."""
    found = find_qwen()
    own, needed = found.pretrained.sha256[:12], pretrained.sha256[:12]
    if found.pretrained.sha256 != pretrained.sha256:
        fact = f"this Qwen3 has sha256 {own}, but the adapter was trained on {needed}"
        raise DataError(found.folder, fact, "set UVLM_QWEN3 to the folder used in training")
    return found


def check_sizes(given: Mapping[str, int], architecture: Mapping[str, Any]) -> None:
    """Refuse sizes, given by the keys of SIZES, that differ from those of Qwen3's config.json."""
    sizes = {key: architecture[name] for key, name in SIZES.items()}
    wrong = {key: size for key, size in sizes.items() if size != given[key]}
    if wrong:
        facts = ", ".join(f"{key} is {given[key]}" for key in wrong)
        options = " ".join(f"-S decoder.{key}={size}" for key, size in wrong.items())
        raise ConfigError("decoder", f"{facts}, unlike this Qwen3", f"use {options}")
