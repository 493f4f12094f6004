"""A source file as its top-level parts, each as text to digest and as the names that it uses.

A part is a definition (function, class or assignment) under its name or, under the empty name, all
other statements of the module. Docstrings, comments, layout and what only type checkers read are
left out. Every Python from 3.11 on writes the same text.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

from uvlm.files import key_of

REST: Final = ""
_SILENT: Final = {"ctx", "kind", "type_comment", "type_ignores"}  # they change nothing that runs
_BLOCKS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, eq=False)
class Part:
    """Statements that count together; `scope` has what the module's imports bind, spelt out."""

    statements: tuple[ast.stmt, ...]
    scope: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """Digest the statements and what imported names stand for: `np` may change its meaning."""
        return key_of([canonical(s) for s in self.statements], sorted(self.imported))

    @cached_property
    def chains(self) -> frozenset[str]:
        """All names in use, with their attributes: `a`, `a.b.c`."""
        return frozenset(chain for statement in self.statements for chain in _chains(statement))

    @cached_property
    def imported(self) -> frozenset[str]:
        """The chains whose first name is imported, spelt out: `numpy.mean`."""
        return frozenset(path for chain in self.chains for path in self.spelt_out(chain))

    @cached_property
    def strings(self) -> frozenset[str]:
        """All string constants that are not docstrings."""
        docstrings = {n.value for n in self.nodes if isinstance(n, ast.Expr) and _is_docstring(n)}
        constants = {n for n in self.nodes if isinstance(n, ast.Constant)} - docstrings
        return frozenset(n.value for n in constants if isinstance(n.value, str))

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """All nodes of the syntax tree."""
        return tuple(node for statement in self.statements for node in ast.walk(statement))

    def spelt_out(self, chain: str) -> list[str]:
        """Replace a chain's first name by what the part or its module imports under it."""
        head, dot, tail = chain.partition(".")
        scopes = (self._own_scope, self.scope)
        return [f"{scope[head]}{dot}{tail}" for scope in scopes if head in scope]

    def field(self, name: str) -> Part:
        """Take one annotated field of a class."""
        body = getattr(self.statements[0], "body", ())
        return Part(tuple(s for s in body if _field(s) == name), self.scope)

    def with_fields(self, kept: Collection[str]) -> Part:
        """Drop all annotated fields of a class but these."""
        (node,) = self.statements
        assert isinstance(node, ast.ClassDef)
        body = [s for s in node.body if not _field(s) or _field(s) in kept]
        cut = ast.ClassDef(node.name, node.bases, node.keywords, body, node.decorator_list)
        return Part((cut,), self.scope)

    @cached_property
    def _own_scope(self) -> Mapping[str, str]:
        return _bindings(self.nodes)


@cache
def read_parts(text: str, project: tuple[str, ...]) -> dict[str, Part]:
    """Take a module apart; `project` names our own packages."""
    body = list(_running(ast.parse(text).body))
    # Imports inside functions and classes bind names there only; each part follows its own.
    scope = _bindings(n for s in body if not isinstance(s, _BLOCKS) for n in ast.walk(s))
    foreign = {name for name, path in scope.items() if path.partition(".")[0] not in project}
    groups: dict[str, list[ast.stmt]] = {REST: []}
    for statement in body:
        for name in _names(statement, foreign):
            groups.setdefault(name, []).append(statement)
    return {name: Part(tuple(group), scope) for name, group in groups.items()}


def canonical(node: object) -> str:
    """Write a syntax tree as text: fields in their order, empty ones left out.

    `ast.dump` would not do, since versions of Python differ in fields and in how they print.
    """
    match node:
        case ast.JoinedStr(values=values):  # 3.12 puts empty strings between the others
            pieces = (v for v in values if not isinstance(v, ast.Constant) or v.value)
            return f"JoinedStr({','.join(map(canonical, pieces))})"
        case ast.AST():
            fields = ((n, v) for n, v in ast.iter_fields(node) if n not in _SILENT)
            written = [f"{name}={canonical(v)}" for name, v in fields if v not in (None, [])]
            return f"{type(node).__name__}({','.join(written)})"
        case list():
            return f"[{','.join(canonical(item) for item in node if not _is_docstring(item))}]"
    return ascii(node)  # not repr: which characters it prints depends on the version


def chain(node: ast.AST) -> str:
    """Write `a.b.c`; empty unless it begins with a name."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name) if before := chain(value):
            return f"{before}.{name}"
    return ""


def _names(statement: ast.stmt, foreign: Set[str]) -> list[str]:
    """List the names under which a top-level statement counts."""
    match statement:
        case ast.Import() | ast.ImportFrom():
            return []
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            decorators = [chain(getattr(d, "func", d)) for d in statement.decorator_list]
            if {text.partition(".")[0] for text in decorators} <= foreign:
                return [name]
            return [name, REST]  # a decorator of our own may register what it decorates
        case ast.Assign(targets=targets):
            return _targets(targets) or [REST]
        case ast.AnnAssign(target=target):
            return _targets([target]) or [REST]
    return [] if _is_docstring(statement) else [REST]


def _targets(targets: Iterable[ast.expr]) -> list[str]:
    """List the names that an assignment defines; none where it writes into something else."""
    nodes = [node for target in targets for node in ast.walk(target)]
    writes = any(isinstance(node, ast.Attribute | ast.Subscript) for node in nodes)
    return [] if writes else [node.id for node in nodes if isinstance(node, ast.Name)]


def _running(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Leave out what is below `if TYPE_CHECKING`."""
    for statement in body:
        if isinstance(statement, ast.If) and chain(statement.test).endswith("TYPE_CHECKING"):
            yield from _running(statement.orelse)
        else:
            yield statement


def _bindings(nodes: Iterable[ast.AST]) -> dict[str, str]:
    """Spell out what imports bind: `import a.b` a; `import a.b as c` and `from a import b` a.b."""
    found: dict[str, str] = {}
    for node in nodes:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    top = alias.name.partition(".")[0]
                    found |= {alias.asname: alias.name} if alias.asname else {top: top}
            case ast.ImportFrom(module=module, names=names):
                found |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in names}
    return found


def _field(statement: ast.stmt) -> str:
    return chain(statement.target) if isinstance(statement, ast.AnnAssign) else ""


def _chains(node: ast.AST) -> Iterator[str]:
    if whole := chain(node):
        yield whole
    else:
        for child in ast.iter_child_nodes(node):
            yield from _chains(child)


def _is_docstring(node: object) -> bool:
    """Whether this is a string on its own, which does nothing."""
    alone = node.value if isinstance(node, ast.Expr) else None
    return isinstance(alone, ast.Constant) and isinstance(alone.value, str)
