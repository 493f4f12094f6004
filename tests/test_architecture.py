"""docs/architecture.md shows the rooms as the imports make them, and names files that exist.

`python -m tests.test_architecture` makes picture and table anew after something moved.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from copy import deepcopy
from functools import cache
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- made from the imports -->\n", "<!-- end -->\n"
COMMAND = "python -m tests.test_architecture"


@cache
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("uvlm", "pipeline")


def packages() -> set[str]:
    """Every folder of code; `uvlm` itself is the house."""
    files = [f for top in ("uvlm", "pipeline") for f in (ROOT / top).rglob("__init__.py")]
    return {".".join(f.parent.relative_to(ROOT).parts) for f in files} - {"uvlm"}


def ground() -> set[str]:
    """Single files right below uvlm, on which every room may stand; `uvlm.cli` stands on rooms."""
    return {f"uvlm.{f.stem}" for f in (ROOT / "uvlm").glob("[!_]*.py")} - {"uvlm.cli"}


def children(parent: str) -> set[str]:
    """The rooms of the picture that lie right inside one."""
    inside = packages() | {"uvlm.cli"}
    return {name for name in inside if name.rpartition(".")[0] == parent}


def arrows(rooms: set[str], house: str = "uvlm") -> list[tuple[str, str]]:
    """Who imports whom, directly or by way of a file between, without what follows from others.

    Args:
        rooms: packages side by side.
        house: what they lie in; what its `__init__` hands on ties nobody to anybody.
    """
    graph = deepcopy(imports())
    for name in graph.find_modules_directly_imported_by(house):
        graph.remove_import(importer=house, imported=name)
    for room in rooms:
        graph.squash_module(room)
    below = {room: graph.find_upstream_modules(room) & rooms for room in rooms}
    return [
        (room, other)
        for room in sorted(rooms)
        for other in sorted(below[room])
        if not any(other in below[between] for between in below[room])
    ]


def picture() -> str:
    """A Mermaid diagram: rooms, the rooms inside them, and arrows to what they import."""
    top = children("uvlm") | {"pipeline"}
    lines = ["flowchart TD"]
    for room in sorted(top):
        inner = children(room)
        if inner:
            lines.append(f"    subgraph {node(room)}")
            lines += [f"        {node(name)}" for name in sorted(inner)]
            lines += [f"        {key(a)} --> {key(b)}" for a, b in arrows(inner, room)]
            lines.append("    end")
        else:
            lines.append(f"    {node(room)}")
    lines += [f"    {key(a)} --> {key(b)}" for a, b in arrows(top)]
    return "\n".join(lines)


def node(room: str) -> str:
    return f'{key(room)}["{path_of(room)}"]'


def key(room: str) -> str:
    return room.replace(".", "_")


def table() -> str:
    """One row a room: its purpose in its own words, and the rooms that its files import."""
    rooms = packages() | {"uvlm.cli"}
    used: dict[str, set[str]] = {room: set() for room in rooms}
    for module in imports().modules:
        if room := innermost(module, rooms):
            targets = imports().find_modules_directly_imported_by(module)
            used[room] |= {innermost(target, rooms) for target in targets} - {room, ""}
    lines = ["| room | what it is for | imports |", "|---|---|---|"]
    for room in sorted(rooms):
        names = ", ".join(name.removeprefix("uvlm.") for name in sorted(used[room]))
        lines.append(f"| `{path_of(room)}` | {purpose(room)} | {names} |")
    lines += [f"| `{path_of(file)}` | {purpose(file)} | |" for file in sorted(ground())]
    return "\n".join(lines)


def innermost(module: str, rooms: Iterable[str]) -> str:
    """The smallest room that holds a module."""
    return max((r for r in rooms if f"{module}.".startswith(f"{r}.")), key=len, default="")


def path_of(room: str) -> str:
    path = room.replace(".", "/")
    return f"{path}/" if (ROOT / path).is_dir() else f"{path}.py"


def purpose(room: str) -> str:
    """The first line of its docstring, less the full stop."""
    path = ROOT / path_of(room)
    source = path / "__init__.py" if path.is_dir() else path
    docstring = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    assert docstring, f"{path} does not say what it is for"
    return docstring.partition("\n")[0].rstrip(".")


def rendered() -> str:
    """The page with its block between the two markers made anew."""
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    assert (begin, end) == (BEGIN, END), f"{PAGE} has lost a marker of its block"
    return f"{before}{BEGIN}\n```mermaid\n{picture()}\n```\n\n{table()}\n\n{END}{after}"


def test_picture_and_table_are_those_of_the_imports() -> None:
    assert PAGE.read_text(encoding="utf-8") == rendered(), f"run `{COMMAND}` and commit the page"


def test_the_picture_runs_down_only() -> None:
    """An arrow and its reverse, or a longer circle, would leave no room at the bottom."""
    houses = {room: children(room) for room in packages()}
    for house, rooms in (houses | {"uvlm": children("uvlm") | {"pipeline"}}).items():
        left = arrows(rooms, house)
        while left:
            tops = {one for one, _ in left} - {other for _, other in left}
            assert tops, left
            left = [arrow for arrow in left if arrow[0] not in tops]


def test_an_import_that_follows_from_others_is_not_drawn_and_every_other_one_is() -> None:
    drawn = arrows(children("uvlm") | {"pipeline"})
    assert ("uvlm.text", "uvlm.config") in drawn
    assert ("uvlm.train", "uvlm.text") not in drawn  # by way of uvlm.inference
    assert imports().chain_exists("uvlm.train", "uvlm.text", as_packages=True)


def test_every_path_on_the_page_exists_and_every_step_names_one() -> None:
    text = PAGE.read_text(encoding="utf-8")
    paths = re.findall(r"`((?:uvlm|pipeline|conf|tests|docs)/[\w./-]*|[\w.]+\.(?:yaml|md))`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    steps = re.findall(r"^\d+\. .*(?:\n   .*)*", text, re.MULTILINE)
    assert len(steps) > 15
    assert [step for step in steps if not re.search(r"`[\w/]+\.\w+`", step)] == []


if __name__ == "__main__":
    PAGE.write_text(rendered(), encoding="utf-8")
