"""Which code decides a stage's result: everything that its script reaches, with digests.

Starting from the script, each name that a part uses leads to the part that defines it, through
imports at any depth and re-exports of packages. If a name cannot be followed to a part, as with a
module that is passed on or named in a string, the whole module counts. Data files count with the
parts that open their folder. Of `Params` only the fields that a stage declares count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from pipeline.syntax import REST, Part, chain, read_parts
from uvlm.errors import ConfigError
from uvlm.files import file_sha256, key_of

PACKAGES: Final = ("uvlm", "pipeline")
# How and where a stage runs, how it is recorded and what its errors say decide no result.
EXEMPT: Final = (
    "pipeline.dvc_yaml", "pipeline.stage", "pipeline.launch", "pipeline.progress", "pipeline.runs",
    "uvlm.environment", "uvlm.errors", "uvlm.memory", "uvlm.tracking", "uvlm.variable",
)  # fmt: skip
_WHOLE: Final = "*"
_OPENERS: Final = {"importlib.resources.files", "jinja2.PackageLoader"}


class Node(NamedTuple):
    """A part of a module by name; `*` means all of them."""

    module: str
    name: str


_PARAMS: Final = Node("uvlm.config.params", "Params")


class Checkout:
    """The source files of a checkout, and where their names lead."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        files = sorted(file for name in PACKAGES for file in (self.root / name).rglob("*.py"))
        self.paths = {_module_name(file.relative_to(self.root)): file for file in files}
        self._parts: dict[str, dict[str, Part]] = {}
        # Scripts share most of what they reach, so each part is looked at once.
        self._uses: dict[Part, set[Node]] = {}
        self._files: dict[Part, tuple[Path, ...]] = {}
        self._digests: dict[Path, str] = {}

    def describe(self, script: str, declared: Iterable[str]) -> dict[str, Any]:
        """List what pipeline/<script>.py reaches if it declares these parameters."""
        reached = self.reached(script, declared)
        by_module: dict[str, dict[str, str]] = {}
        for node, part in sorted(reached.items(), key=lambda item: item[0]):
            if part.statements:
                by_module.setdefault(node.module, {})[node.name] = part.digest
        modules = {module: key_of(digests) for module, digests in by_module.items()}
        opened = {path for node, part in reached.items() for path in self._data(node.module, part)}
        files = {p.relative_to(self.root).as_posix(): self._sha256(p) for p in sorted(opened)}
        return {"digest": key_of(modules, files), "modules": modules, "files": files}

    def reached(self, script: str, declared: Iterable[str]) -> dict[Node, Part]:
        """Collect every part that a script reaches."""
        sections = self._sections(declared)
        todo, found = [Node(f"pipeline.{script}", _WHOLE), _PARAMS], dict[Node, Part]()
        while todo:
            node = todo.pop()
            if node.name == _WHOLE:
                todo += (Node(node.module, name) for name in self.parts(node.module))
            elif node not in found:
                found[node] = sections.get(node) or self._part(node)
                todo += self._leads_to(node.module, found[node])
        return found

    def parts(self, module: str) -> dict[str, Part]:
        """Take a module apart, once."""
        if module not in self._parts:
            path = self.paths[module]
            try:
                self._parts[module] = read_parts(path.read_text(encoding="utf-8"), PACKAGES)
            except SyntaxError as error:
                fact = f"line {error.lineno} is not Python ({error.msg})"
                raise ConfigError(path, fact, "correct it") from None
        return self._parts[module]

    def _leads_to(self, module: str, part: Part) -> set[Node]:
        if part not in self._uses:
            parts = self.parts(module)
            heads = {name.partition(".")[0] for name in part.chains}
            found = {Node(module, head) for head in heads & parts.keys()}
            # A dotted string that names a module may be run by name, as a child process is.
            modules = part.strings & self.paths.keys()
            found |= {Node(name, _WHOLE) for name in modules if "." in name}
            found |= {node for path in part.imported for node in self._find(path)}
            self._uses[part] = found | (self._run_with(module) if part is parts[REST] else set())
        return self._uses[part]

    def _find(self, path: str) -> list[Node]:
        """Follow `package.module.name` to where the name is defined."""
        module = self._module_of(path)
        if not module:
            return []
        head, _, tail = path[len(module) + 1 :].partition(".")
        parts, scope = self.parts(module), self.parts(module)[REST].scope
        if head and head in parts:
            return [Node(module, head), Node(module, REST)]
        if head in scope:
            return [Node(module, REST), *self._find(f"{scope[head]}.{tail}".rstrip("."))]
        return [Node(module, _WHOLE)]

    def _module_of(self, path: str) -> str:
        """Name our module that a path begins with; empty if there is none or if it is exempt."""
        while path and path not in self.paths:
            path = path.rpartition(".")[0]
        return "" if f"{path}.".startswith(tuple(f"{name}." for name in EXEMPT)) else path

    def _run_with(self, module: str) -> set[Node]:
        """List what importing a module runs: its packages and what it imports."""
        paths = {*self.parts(module)[REST].scope.values(), module.rpartition(".")[0]}
        return {Node(name, REST) for name in map(self._module_of, paths) if name}

    def _sections(self, declared: Iterable[str]) -> dict[Node, Part]:
        """Cut `Params` and its sections down to the declared fields, unless all are declared."""
        fields: dict[Node, set[str]] = {_PARAMS: set()}
        whole: set[Node] = set()  # sections at the end of a declared key
        for key in declared:
            sections = {_PARAMS}
            for name in key.split("."):
                for node in sections:
                    fields.setdefault(node, set()).add(name)
                found = [(n.module, self._part(n).field(name)) for n in sections]
                sections = {n for at, part in found for n in self._leads_to(at, part) if n.name}
            whole |= sections
        return {n: self._part(n).with_fields(fields[n]) for n in fields.keys() - whole}

    def _part(self, node: Node) -> Part:
        return self.parts(node.module)[node.name]

    def _data(self, module: str, part: Part) -> tuple[Path, ...]:
        if part not in self._files:
            self._files[part] = tuple(self._opened(module, part))
        return self._files[part]

    def _sha256(self, path: Path) -> str:
        if path not in self._digests:
            self._digests[path] = file_sha256(path)
        return self._digests[path]

    def _opened(self, module: str, part: Part) -> Iterator[Path]:
        """Find the data files of the folders that a part opens, or of all if it names none."""
        for node in part.nodes:
            if isinstance(node, ast.Call) and _OPENERS & {*part.spelt_out(chain(node.func))}:
                base = self._folder(node.args[0], module)
                # Long strings are no file names; `templates` is the default of a PackageLoader.
                names = {s for s in part.strings if s.isprintable() and len(s) < 99} | {"templates"}
                inside = [base / name for name in names if base in (base / name).resolve().parents]
                for path in [path for path in inside if path.exists()] or [base]:
                    files = (file for file in [path, *path.rglob("*")] if file.is_file())
                    yield from (file for file in files if file.suffix not in (".py", ".pyc"))

    def _folder(self, package: ast.expr, module: str) -> Path:
        """Find the folder of the package that an expression names."""
        match package:
            case ast.Constant(value=str(name)):
                return self.root / name.replace(".", "/")
            case ast.Name(id="__package__"):
                return self.paths[module].parent
        return self.root / PACKAGES[0]


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
