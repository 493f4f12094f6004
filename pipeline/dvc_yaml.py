"""What dvc.yaml declares: each stage with its command, dependencies, parameters and outputs.

The same declarations give a stage its fingerprint (parameters and inputs), by which a restarted
stage finds its earlier run, and a skipped one the run that made its outputs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.profiles import flatten, read_document
from uvlm.errors import ConfigError
from uvlm.files import key_of


@dataclass(frozen=True)
class Declaration:
    """One stage of dvc.yaml; a matrix stage gives one declaration per value."""

    name: str
    command: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]
    options: Mapping[str, Mapping[str, Any]]  # by out: cache, persist, x, y, ...

    @property
    def script(self) -> str:
        """The script below pipeline/, without a matrix value."""
        return self.name.partition("@")[0]


def read_declarations(root: Path) -> dict[str, Declaration]:
    """Read every stage of dvc.yaml by name."""
    document = read_document(root / "dvc.yaml")
    declarations = (d for item in document["stages"].items() for d in _expand(*item))
    return {declaration.name: declaration for declaration in declarations}


def stage_params(document: Any, declaration: Declaration) -> dict[str, Any]:
    """Look up the parameters that a stage declares, as dotted keys of single values."""
    values: dict[str, Any] = {}
    for key in declaration.params:
        node = document
        for part in key.split("."):
            if not isinstance(node, dict) or part not in node:
                raise ConfigError("params.yaml", f"{key} is missing", "run `uvlm params`")
            node = node[part]
        values |= flatten(node, key)
    return values


def input_digests(root: Path, declaration: Declaration) -> dict[str, str]:
    """Take the sha256 of every dependency, folders as one digest over names and contents."""
    return {dep: digest(root / dep) for dep in declaration.deps}


def fingerprint(root: Path, declaration: Declaration, inputs: Mapping[str, str]) -> str:
    """Digest what decides a stage's result: its parameters and its dependencies' contents."""
    values = stage_params(read_document(root / "params.yaml"), declaration)
    return key_of(declaration.name, values, dict(inputs))


def digest(path: Path) -> str:
    """Take the sha256 of a file or a folder; `absent` where there is none."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if not path.is_dir():
        return "absent"
    whole = hashlib.sha256()
    files = (p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    for file_path in sorted(files):
        whole.update(f"{file_path.relative_to(path).as_posix()} {digest(file_path)}\n".encode())
    return whole.hexdigest()


def _expand(name: str, stage: dict[str, Any]) -> Iterable[Declaration]:
    if "matrix" not in stage:
        return [_declare(name, stage, {})]
    ((variable, values),) = stage["matrix"].items()
    return [_declare(f"{name}@{v}", stage, {f"${{item.{variable}}}": v}) for v in values]


def _declare(name: str, stage: dict[str, Any], replacements: dict[str, str]) -> Declaration:
    def fill(text: str) -> str:
        for placeholder, value in replacements.items():
            text = text.replace(placeholder, value)
        return text

    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    named = [entry if isinstance(entry, dict) else {entry: {}} for entry in entries]
    options = {fill(path): option for entry in named for path, option in entry.items()}
    return Declaration(
        name=name,
        command=fill(stage["cmd"]),
        deps=tuple(fill(dep) for dep in stage.get("deps", [])),
        params=tuple(fill(key) for key in stage.get("params", [])),
        outs=tuple(options),
        options=options,
    )
