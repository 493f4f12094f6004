"""Model folders: safetensors and JSON, written whole or not at all, verified when read.

    seg     unet, encoder                        .safetensors   config.json  contract.json
    cls     encoder, classifier                  .safetensors   config.json  contract.json
    report  unet, encoder, classifier, decoder   .safetensors   config.json  contract.json
            and tokenizer.json: stands alone for `predict`

config.json rebuilds the modules and holds the sha256 of every weights file; contract.json says how
a volume must be prepared. `decoder` holds the projections too. Nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from uvlm.errors import DataError
from uvlm.files import file_sha256, filling_folder, write_json_atomic
from uvlm.model.model_config import MODEL_CONFIG, AnyModelConfig, ModelConfig
from uvlm.model.weights import State, without_aliases

STAGE_BY_KIND = {"seg": "train_seg", "cls": "train_cls", "report": "train_report"}


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


def save_model(
    directory: Path,
    modules: Mapping[str, Mapping[str, Tensor]],
    config: AnyModelConfig | Mapping[str, Any],
    contract: Mapping[str, Any],
    files: Mapping[str, bytes] | None = None,
) -> str:
    """Write a model folder under a temporary name, then rename it over `directory`.

    Args:
        directory: the folder to make or replace.
        modules: `state_dict()` of every module of the kind, by name.
        config: a SegModelConfig, ClsModelConfig or ReportModelConfig, or the same as a mapping.
        contract: how volumes were prepared.
        files: more files by name, such as tokenizer.json.

    Returns:
        The model's sha256, the digest of its config.json, which covers all weights.
    """
    card = MODEL_CONFIG.validate_python(config)
    if set(modules) != set(card.module_names):
        raise ValueError(f"modules {sorted(modules)} given, {sorted(card.module_names)} needed")
    with filling_folder(directory) as folder:
        for name, state in modules.items():
            tensors = {key: t.detach().cpu() for key, t in without_aliases(state).items()}
            contiguous = {key: tensor.contiguous() for key, tensor in tensors.items()}
            save_file(contiguous, folder / f"{name}.safetensors")
        digests = {name: file_sha256(folder / f"{name}.safetensors") for name in sorted(modules)}
        document = card.model_copy(update={"weights": digests}).model_dump(mode="json")
        write_json_atomic(folder / "config.json", document, sort_keys=True)
        write_json_atomic(folder / "contract.json", contract, sort_keys=True)
        for name, payload in (files or {}).items():
            (folder / name).write_bytes(payload)
    return file_sha256(directory / "config.json")


def check_contract(directory: Path, contract: Mapping[str, Any]) -> None:
    """Refuse a model whose volumes were prepared differently from `contract`.

    Keys that only the model's contract has, such as label names, are not compared.
    """
    stored = read_contract(directory)
    given = json.loads(json.dumps(contract))
    for key in sorted(given):
        if key not in stored or stored[key] != given[key]:
            raise DataError(
                directory / "contract.json",
                f"{key} is {stored.get(key)!r} in the model but {given[key]!r} in the data",
                "prepare the data as the model was trained, or train the model again",
            )
