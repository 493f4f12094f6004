"""What dvc.yaml declares: each stage with its command, dependencies, parameters and outputs.

The same declarations give a stage its fingerprint, a digest of what decides its result. By it a
restarted stage finds its earlier run, an interrupted training its state, and a skipped stage the
run that made its outputs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.paths import PARAMS, code
from pipeline.profiles import read_document
from uvlm.errors import ConfigError
from uvlm.files import file_sha256, files_sha256, key_of


@dataclass(frozen=True)
class Declaration:
    """One stage of dvc.yaml; a matrix stage has one declaration per value."""

    name: str
    command: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: Mapping[str, Mapping[str, Any]]  # options by path: cache, persist, x, y, ...

    @property
    def script(self) -> str:
        """The script below pipeline/, without a matrix value."""
        return self.name.partition("@")[0]


def read_declarations(root: Path) -> dict[str, Declaration]:
    """Read every stage of dvc.yaml by name."""
    document = read_document(root / "dvc.yaml")
    return {d.name: d for item in document["stages"].items() for d in _expand(*item)}


def params_by_script(root: Path) -> dict[str, set[str]]:
    """Collect what every script but `code` declares; a matrix stage is one script."""
    keys: dict[str, set[str]] = {}
    for declaration in read_declarations(root).values():
        if declaration.script != "code":
            keys.setdefault(declaration.script, set()).update(declaration.params)
    return keys


def stage_params(document: Any, declaration: Declaration) -> dict[str, Any]:
    """Look up the parameters that a stage declares, nested as in the document."""
    values: dict[str, Any] = {}
    for key in declaration.params:
        *parents, name = key.split(".")
        node, chosen = document, values
        try:
            for parent in parents:
                node, chosen = node[parent], chosen.setdefault(parent, {})
            chosen[name] = node[name]
        except (KeyError, TypeError):
            raise ConfigError(PARAMS, f"{key} is missing", "run `uvlm params`") from None
    return values


@dataclass(frozen=True)
class Causes:
    """What decides a stage's result."""

    declaration: Declaration
    code: str  # digest of all that the stage's script reaches
    params: Mapping[str, Any]
    inputs: Mapping[str, str]  # sha256 by path

    @property
    def fingerprint(self) -> str:
        """A digest of everything, then a short one of each cause, to tell why two runs differ."""
        causes = (self.code, self.params, self.inputs)
        return "-".join(
            [key_of(self.declaration.name, *causes), *(key_of(cause)[:6] for cause in causes)]
        )


def read_causes(root: Path, declaration: Declaration) -> Causes:
    """Read what decides the stage's result if it runs now."""
    reached = code(declaration.script)
    inputs = {dep: digest(root / dep) for dep in declaration.deps if dep != str(reached)}
    params = stage_params(read_document(root / PARAMS), declaration)
    return Causes(declaration, code_digest(root / reached), params, inputs)


def code_digest(path: Path) -> str:
    """Read the digest of all the code that a stage reaches; empty before the stage `code` ran."""
    return str(json.loads(path.read_text(encoding="utf-8"))["digest"]) if path.exists() else ""


def digest(path: Path) -> str:
    """Compute the sha256 of a file or a folder; `absent` if there is neither."""
    if path.is_file():
        return file_sha256(path)
    if not path.is_dir():
        return "absent"
    files = (p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return files_sha256(path, [p.relative_to(path) for p in sorted(files)])


def _expand(name: str, stage: dict[str, Any]) -> Iterable[Declaration]:
    if "matrix" not in stage:
        return [_declare(name, stage, "${item}", "")]
    ((variable, values),) = stage["matrix"].items()
    return [_declare(f"{name}@{v}", stage, f"${{item.{variable}}}", v) for v in values]


def _declare(name: str, stage: dict[str, Any], placeholder: str, value: str) -> Declaration:
    def fill(text: str) -> str:
        return text.replace(placeholder, value)

    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    named = [entry if isinstance(entry, dict) else {entry: {}} for entry in entries]
    outs = {fill(path): option for entry in named for path, option in entry.items()}
    deps, params = (tuple(map(fill, stage.get(kind, []))) for kind in ("deps", "params"))
    return Declaration(name, fill(stage["cmd"]), deps, params, outs)
