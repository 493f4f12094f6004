"""Reading a model folder as files: config, contract and weights, each checked before use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from uvlm.errors import DataError
from uvlm.model.model_config import (
    MODEL_CONFIG,
    AnyModelConfig,
    ModelConfig,
)
from uvlm.model.weights import State

STAGE_BY_KIND = {"seg": "train_seg", "cls": "train_cls", "report": "train_report"}


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_config(directory: Path, kinds: Sequence[str]) -> AnyModelConfig:
    """config.json, refused unless the folder holds a model of one of `kinds`."""
    path = directory / "config.json"
    document = _read_json(path, kinds)
    kind = document.get("kind")
    if kind in STAGE_BY_KIND and kind not in kinds:
        raise DataError(
            directory,
            f"holds a {kind} model, expected {' or '.join(kinds)}",
            f"pass the folder that {_stages(kinds)} writes",
        )
    try:
        return MODEL_CONFIG.validate_python(document)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "document"
        fact = f"{place}: {problem['msg']}"
        raise DataError(path, fact, _remedy(kinds)) from None


def read_contract(directory: Path) -> dict[str, Any]:
    """contract.json: how a volume must be prepared for this model."""
    return _read_json(directory / "contract.json", tuple(STAGE_BY_KIND))


def read_weights(directory: Path, name: str, config: ModelConfig) -> State:
    """Tensors of `name`.safetensors, after its bytes matched the digest in config.json."""
    path = directory / f"{name}.safetensors"
    remedy = _remedy((config.model_dump()["kind"],))
    expected = config.weights.get(name)
    if expected is None:
        raise DataError(directory / "config.json", f"weights: no sha256 for {name}", remedy)
    if not path.is_file():
        raise DataError(path, "no such file", remedy)
    found = file_sha256(path)
    if found != expected:
        fact = f"sha256 is {found[:12]} but config.json says {expected[:12]}: damaged or replaced"
        raise DataError(path, fact, remedy)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DataError(path, f"not readable as safetensors ({error})", remedy) from None


def _read_json(path: Path, kinds: Sequence[str]) -> dict[str, Any]:
    """Read a JSON object, or raise one DataError that says what is wrong with the file."""
    if not path.is_file():
        raise DataError(path, "no such file", _remedy(kinds))
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(path, f"not readable as JSON ({error})", _remedy(kinds)) from None
    if not isinstance(document, dict):
        raise DataError(path, "not a JSON object", _remedy(kinds))
    return document


def _stages(kinds: Sequence[str]) -> str:
    return " or ".join(STAGE_BY_KIND[kind] for kind in kinds)


def _remedy(kinds: Sequence[str]) -> str:
    return f"write the folder again: dvc repro -f -s {_stages(kinds)}"
