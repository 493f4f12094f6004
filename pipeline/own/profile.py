"""Write conf/profile/NAME.yaml for a user's own data, sized to this computer.

The numbers of a first try: short trainings with the optimisers that suit few steps. Everything else
comes from the profile `folder`, so the file shows all that differs, and people may edit it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final

from pipeline.own.look import Look, look
from pipeline.profiles import compose, yaml_text
from pipeline.sizes import LADDER, Fit, largest_that_fits, merged, short_training, table
from uvlm.config import FolderConfig, Params, parse_params, parse_section
from uvlm.environment import OWN_DATA
from uvlm.errors import ConfigError
from uvlm.files import write_text_atomic
from uvlm.memory import Memory, usable_memory
from uvlm.variable import SIZE

_MADE: Final = "# Made by `uvlm own`"
_HEADER: Final = f"""# @package _global_
{_MADE} for {{cts}} CTs on a computer with {{memory}} MiB; see docs/own_data.md.
# A first try: the networks fit this memory, and the trainings are short. Raise `steps` for results.
"""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")
_TOKENS_PER_WORD: Final = 2
_OPTIMISERS: Final = {
    "train_cls": {"lr": 3.0e-4, "weight_decay": 2.0e-2, "warmup_steps": 10, "schedule": "cosine"},
    "train_report": {
        "lr": 2.0e-3, "weight_decay": 2.0e-2, "warmup_steps": 20, "schedule": "cosine",
        "clip_norm": 1.0,
    },
}  # fmt: skip
_TRAININGS: Final = {
    "train_cls": {
        **short_training(60, every=20), "head_warmup_steps": 100, "head_warmup_lr": 2.0e-3,
        "head_warmup_batch_size": 8, "balanced_fraction": 0.5, "log_every": 5,
    },
    "train_report": {
        **short_training(150, every=50), "feature_noise_std": 0.1, "standardise_features": True,
        "balanced_fraction": 0.5, "adam_beta2": 0.98, "log_every": 20,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What the command line says; a column of None is the default of the profile `folder`."""

    folder: Path
    name: str
    columns: Mapping[str, str | None]
    memory: str | None
    minutes: float
    force: bool


def make_own(root: Path, request: Request) -> Iterator[str]:
    """Look, choose a size, write the profile; yields the lines to show.

    Raises:
        ConfigError: a name, size or folder is wrong, or the profile exists.
        DataError: the data would be refused.
        SetupError: nothing fits the memory.
    """
    path, memory = _profile_path(root, request), _memory(request.memory)
    base = compose(root, "folder")
    columns = {key: value for key, value in request.columns.items() if value is not None}
    config = parse_section(FolderConfig, base["download"]["folder"] | columns, "download.folder")
    folder = _folder(request.folder)
    # The smallest size prepares fastest, and what is refused does not depend on it.
    seen = look(folder, config, parse_params(merged(base, LADDER[0]), "conf/profile/folder.yaml"))
    yield from (f"{name:<10}{text}" for name, text in seen.lines(config.patient_column))

    def document(size: Mapping[str, Any]) -> dict[str, Any]:
        return merged(_first_try(request.name, columns, seen), size)

    def composed(size: Mapping[str, Any]) -> Params:
        return parse_params(merged(base, document(size)), f"conf/profile/{request.name}.yaml")

    fit = largest_that_fits(composed, seen.cts, memory, request.minutes)
    _write(path, document(fit.size), seen, memory)
    yield from _conclusion(request, folder, fit, memory, path.relative_to(root))


def _conclusion(
    request: Request, folder: Path, fit: Fit, memory: Memory, path: Path
) -> Iterator[str]:
    """Say what was chosen, what it will need, and what to type."""
    mib = memory.num_bytes / 2**20
    yield f"{'memory':<10}{mib:,.0f} MiB ({memory.said_by})"
    grid = " x ".join(map(str, fit.params.preprocess.grid))
    yield f"{'size':<10}{grid} voxels, decoder {fit.params.decoder.width} wide"
    yield f"{'time':<10}about {ceil(fit.minutes)} min of training, estimated from one timed step"
    yield f"\n{table(fit.stages)}\n"
    yield f"Written to {path}. Then:\n"
    yield f"    export {OWN_DATA.name}={shlex.quote(str(folder))}"
    yield f"    uvlm use {request.name}"
    yield "    dvc repro"
    yield "    uvlm predict NEW_CT --model data/models/report --out draft"


def _first_try(name: str, columns: Mapping[str, str], seen: Look) -> dict[str, Any]:
    """List what a first try changes in the profile `folder`, apart from sizes."""
    tokens = 32 * ceil(_TOKENS_PER_WORD * seen.longest_report / 32)
    trainings = {
        stage: {**numbers, "batch_size": 2, "optim": _OPTIMISERS[stage]}
        for stage, numbers in _TRAININGS.items()
    }
    return {
        "profile": name,
        **({"download": {"folder": dict(columns)}} if columns else {}),
        "tokenizer": {"vocabulary_size": 1024},
        "decoder": {"max_report_tokens": min(1024, max(64, tokens))},
        "generate": {"batch_size": 4},
        **trainings,
    }


def _write(path: Path, document: dict[str, Any], seen: Look, memory: Memory) -> None:
    header = _HEADER.format(cts=seen.cts.count, memory=f"{memory.num_bytes / 2**20:,.0f}")
    text = yaml_text({"defaults": ["folder", "_self_"], **document})
    path.parent.mkdir(exist_ok=True)
    write_text_atomic(path, header + text)


def _profile_path(root: Path, request: Request) -> Path:
    """Refuse a name that is not one, or is taken."""
    if _NAME.fullmatch(request.name) is None:
        remedy = "use lower-case letters, digits, - and _"
        raise ConfigError("--name", f"{request.name!r} is no name of a profile", remedy)
    path = root / "conf" / "profile" / f"{request.name}.yaml"
    if not path.exists():
        return path
    if _MADE not in path.read_text(encoding="utf-8"):
        raise ConfigError(path, "exists and is not from `uvlm own`", "choose another --name")
    if not request.force:
        raise ConfigError(path, "exists", "pass --force to write it again, or another --name")
    return path


def _memory(text: str | None) -> Memory:
    """Read --memory, or find what there is."""
    if text is None:
        return usable_memory()
    if re.fullmatch(SIZE.pattern, text) is None:
        raise ConfigError("--memory", f"is {text!r}", f"pass {SIZE.accepts}")
    return Memory(SIZE.convert(text), "--memory")


def _folder(path: Path) -> Path:
    if not path.is_dir():
        fact = "is not a folder" if path.exists() else "no such folder"
        raise ConfigError(path, fact, "pass the folder of your CTs and their table")
    return path.resolve()
