"""Model folders: safetensors and JSON, written whole or not at all, verified when read.

    seg     unet, encoder                        .safetensors   config.json  contract.json
    cls     encoder, classifier                  .safetensors   config.json  contract.json
    report  unet, encoder, classifier, decoder   .safetensors   config.json  contract.json
            and tokenizer.json: all that `predict` needs; if the encoder trained with the decoder,
            classifier_encoder is that of stage 2, which the classifier goes on reading

config.json rebuilds the modules and holds the sha256 of every weights file; contract.json says how
a volume must be prepared. `decoder` includes the projections. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from uvlm.errors import DataError
from uvlm.files import file_sha256, filling_folder, read_json, reading, write_json_atomic
from uvlm.model.model_config import MODEL_CONFIG, AnyModelConfig, ModelConfig
from uvlm.model.weights import State, without_aliases

STAGE_BY_KIND = {"seg": "train_seg", "cls": "train_cls", "report": "train_report"}


def read_config(directory: Path, kinds: Sequence[str]) -> AnyModelConfig:
    """Read config.json; refuse a folder whose model is of none of `kinds`."""
    with reading(directory):
        _check_folder(directory, kinds)
    path = directory / "config.json"
    document = read_json(path, _remedy(kinds))
    kind = document.get("kind")
    if kind in STAGE_BY_KIND and kind not in kinds:
        fact = f"holds a {kind} model, expected {' or '.join(kinds)}"
        raise DataError(directory, fact, f"pass the folder that {_stages(kinds)} writes")
    try:
        return MODEL_CONFIG.validate_python(document)
    except ValidationError as error:
        raise DataError(path, first_problem(error, "document"), _remedy(kinds)) from None


def _check_folder(directory: Path, kinds: Sequence[str]) -> None:
    """Refuse what is no model folder, not even a damaged one, and say what may be meant."""
    if directory.is_dir():
        if (directory / "config.json").exists() or any(directory.glob("*.safetensors")):
            return
        fact = "is no model folder: it holds neither config.json nor weights"
    else:
        fact = "is a file, not a model folder" if directory.exists() else "no such folder"
    meant = " or ".join(str(path) for path in _like(directory) if _kind(path) in kinds)
    remedy = f"did you mean {meant}?" if meant else f"pass the folder that {_stages(kinds)} writes"
    raise DataError(directory, fact, remedy)


def _like(directory: Path) -> list[Path]:
    """Find what may be meant: the folder around a file, those in a folder, those of a like name."""
    if directory.is_file():
        return [directory.parent]
    exists = directory if directory.is_dir() else next(p for p in directory.parents if p.is_dir())
    folders = {path.name: path for path in sorted(exists.iterdir()) if path.is_dir()}
    rest = directory.relative_to(exists).parts
    if rest:
        folders = {name: folders[name] for name in get_close_matches(rest[0], folders)}
    return [path.joinpath(*rest[1:]) for path in folders.values()]


def _kind(directory: Path) -> Any:
    """Return the kind of a model folder, None for any other."""
    try:
        return read_json(directory / "config.json").get("kind")
    except DataError:
        return None


def read_contract(directory: Path) -> dict[str, Any]:
    """Read contract.json: how a volume must be prepared for this model."""
    return read_json(directory / "contract.json", _remedy(tuple(STAGE_BY_KIND)))


def read_weights(directory: Path, name: str, config: ModelConfig) -> State:
    """Read the tensors of `name`.safetensors, whose bytes must match the digest in config.json."""
    path = directory / f"{name}.safetensors"
    remedy = _remedy((config.model_dump()["kind"],))
    expected = config.weights.get(name)
    if expected is None:
        raise DataError(directory / "config.json", f"weights: no sha256 for {name}", remedy)
    with reading(path):
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


def first_problem(error: ValidationError, whole: str) -> str:
    """Say where pydantic's first complaint is and what it is; `whole` names the document itself."""
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc'])) or whole}: {problem['msg']}"


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
        files: further files by name, such as tokenizer.json.

    Returns:
        The model's sha256: that of its config.json, which covers the digests of all weights.
    """
    card = MODEL_CONFIG.validate_python(config)
    if set(modules) - set(card.optional_names) != set(card.module_names):
        raise ValueError(f"modules {sorted(modules)} given, {sorted(card.module_names)} needed")
    with filling_folder(directory) as folder:
        for name, state in modules.items():
            # Aliases go first: copies to the CPU no longer share the memory that gives them away.
            own = without_aliases(state)
            tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in own.items()}
            save_file(tensors, folder / f"{name}.safetensors")
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
    given = json.loads(json.dumps(contract))  # tuples become lists, as in the file
    for key in sorted(given):
        if key not in stored or stored[key] != given[key]:
            fact = f"{key} is {stored.get(key)!r} in the model but {given[key]!r} in the data"
            remedy = "prepare the data as for its training, or train the model again"
            raise DataError(directory / "contract.json", fact, remedy)
