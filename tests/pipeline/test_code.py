from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from pipeline.dvc_yaml import params_by_script
from pipeline.reach import Checkout
from pipeline.seen_code import recall, remember
from pipeline.syntax import read_parts
from uvlm.errors import ConfigError

ROOT = Path(__file__).parents[2]
Write = Callable[[dict[str, str]], Checkout]
PARAMS = """
from uvlm.config import sections
class Params:
    seed: int
    own: sections.Own
    other: sections.Other
    group: sections.Group
"""
SECTIONS = """
class Leaf: ...
class Own: ...
class Other: ...
class Group:
    leaf: Leaf
    other: Other
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A checkout of a few files, by module name or, with a slash, by path."""

    def write(sources: dict[str, str]) -> Checkout:
        config = {"uvlm.config.params": PARAMS, "uvlm.config.sections": SECTIONS}
        for name, text in (config | sources).items():
            path = tmp_path / (name if "/" in name else f"{name.replace('.', '/')}.py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Checkout(tmp_path)

    return write


def reached(sources: Checkout, declared: Iterable[str] = ()) -> set[str]:
    """What pipeline/run.py reaches of uvlm, without `Params`."""
    nodes = sources.reached("run", declared).keys()
    names = {f"{node.module.removeprefix('uvlm.')}.{node.name}" for node in nodes if node.name}
    return {name for name in names if not name.startswith(("pipeline", "config.params"))}


LIBRARY = {"uvlm.a": "def f(): return g()\ndef g(): return X\nX = 1\ndef unused(): ...\n"}


@pytest.mark.parametrize(
    "script",
    [
        "from uvlm.a import f\nf()",
        "from uvlm.a import f as called\ncalled()",
        "import uvlm.a\nuvlm.a.f()",
        "import uvlm.a as a\na.f()",
        "from uvlm import a\na.f()",
        "def run():\n    from uvlm.a import f\n    f()",
        "class Run:\n    def run(self):\n        from uvlm import a\n        a.f()",
        "from uvlm.b import f\nf()",
        "from uvlm.b import again\nagain.f()",
    ],
)
def test_a_name_leads_to_its_definition_and_to_what_that_uses(script: str, write: Write) -> None:
    onward = {"uvlm.b": "from uvlm.a import f\nimport uvlm.a as again\n"}
    sources = write(LIBRARY | onward | {"pipeline.run": script})
    assert reached(sources) == {"a.f", "a.g", "a.X"}


@pytest.mark.parametrize(
    "script",
    [
        "from uvlm import a\ncall(a)",
        "from uvlm import a\ngetattr(a, name)()",
        "import importlib\nimportlib.import_module('uvlm.a')",
        "subprocess.run(['python', '-m', 'uvlm.a'])",
        "from uvlm.a import made_by_exec",
    ],
)
def test_a_module_whose_use_cannot_be_followed_counts_whole(script: str, write: Write) -> None:
    sources = write(LIBRARY | {"pipeline.run": f"{script}\nmade_by_exec"})
    assert reached(sources) == {"a.f", "a.g", "a.X", "a.unused"}


def test_imports_for_type_checkers_lead_nowhere(write: Write) -> None:
    script = "if TYPE_CHECKING:\n    from uvlm.a import f\ndef run(x: f): ...\n"
    assert reached(write(LIBRARY | {"pipeline.run": script})) == set()


def test_what_importing_runs_counts_though_no_name_of_it_is_used(write: Write) -> None:
    sources = {
        "pipeline.run": "from uvlm.a import f\n",
        "uvlm/a/__init__.py": "import uvlm.b\nfrom uvlm.b import unused\ndef f(): ...\n",
        "uvlm.b": "TABLE = {}\nTABLE['x'] = value = 1\ndef unused(): ...\n@keep\ndef kept(): ...\n"
        "def keep(f): TABLE['y'] = f\n",
    }
    assert reached(write(sources)) == {"b.TABLE", "b.keep"}
    found = write(sources).reached("run", ())
    statements = {node: part for node, part in found.items() if not node.name}
    assert [len(part.statements) for node, part in statements.items() if node[0] == "uvlm.b"] == [2]


def test_of_the_parameters_only_what_is_declared_counts(write: Write) -> None:
    sources = write({"pipeline.run": ""})
    assert reached(sources, ["seed"]) == set()
    assert reached(sources, ["own"]) == {"config.sections.Own"}
    assert reached(sources, ["group"]) == {
        f"config.sections.{n}" for n in ("Group", "Leaf", "Other")
    }
    assert reached(sources, ["group.leaf"]) == {f"config.sections.{n}" for n in ("Group", "Leaf")}
    whole = sources.describe("run", ["own"])["modules"]["uvlm.config.params"]
    assert whole != sources.describe("run", ["own", "other"])["modules"]["uvlm.config.params"]


def test_data_files_count_with_the_function_that_opens_their_folder(write: Write) -> None:
    reader = (
        "from importlib.resources import files\n"
        "def one(name): return files('uvlm').joinpath('tables', name)\n"
        "def own(): return files(__package__) / 'more'\n"
        "def any(folder): return files('uvlm') / folder\n"
    )
    data = {"uvlm/tables/a.json": "1", "uvlm/deep/more/b.yaml": "2", "uvlm/deep/c.txt": "3"}
    sources = write(data | {"uvlm.deep.reader": reader} | {
        f"pipeline.{name}": f"from uvlm.deep.reader import {name}\n{name}()"
        for name in ("one", "own", "any")
    })  # fmt: skip
    assert set(sources.describe("one", ())["files"]) == {"uvlm/tables/a.json"}
    assert set(sources.describe("own", ())["files"]) == {"uvlm/deep/more/b.yaml"}
    assert set(sources.describe("any", ())["files"]) == set(data)


def test_a_file_that_is_not_python_is_named(write: Write) -> None:
    sources = write({"pipeline.run": "from uvlm.a import f\nf()", "uvlm.a": "def f(:\n"})
    with pytest.raises(ConfigError, match=r"a\.py: line 1 is not Python"):
        sources.reached("run", ())


def test_layout_docstrings_and_quotes_are_not_said_but_every_value_is() -> None:
    def digest(source: str) -> str:
        return read_parts(source, ("uvlm",))["f"].digest

    plain = digest("def f(x=1):\n    return ['', x]\n")
    assert digest('def f( x = 1 ):  # why\n    """Say."""\n    return [ "" ,\n x ]\n') == plain
    others = ["def f(x=1.0):\n    return ['', x]", "def f(x=1):\n    return [x]",
              "def f(x=1, /):\n    return ['', x]", "async def f(x=1):\n    return ['', x]",
              "def f(x=True):\n    return ['', x]", "def f(x=1):\n    return [b'', x]"]  # fmt: skip
    assert len({plain, *map(digest, others)}) == 7
    assert digest("import a as b\ndef f(): b()") != digest("import c as b\ndef f(): b()")


# Whatever the versions of Python parse into different trees, and some that look as if.
TRICKY = r'''
def f(*a, b: int = 0, **c) -> list[int]:
    x = f"a{{b{a!r:>{b}}}}c" "d" f"{b=}" f"{b:}" f"{a:x{b}y}" f"" "\N{BULLET}"
    x += f"{c['a']:>{len('x')}}" f"""{
        a}"""
    y = (z := 1e309, -0.0, 1j, 10**3, "\u1c89", b"\x00", u"u", ..., None, True)
    match x:
        case {"k": [1, *_], **rest} | [rest] if rest: return [*a, lambda: (yield)]
    try: del y[1:, ::2]
    except* (OSError, ValueError) as e: raise e from None
    class C(metaclass=type):
        """Say."""
    return [i for i in a if i async for j in i]
'''
CHILD = """
import json, sys
from pathlib import Path
from pipeline.reach import Checkout
from pipeline.seen_code import recall, remember
from pipeline.syntax import read_parts
root, declared, tricky = json.load(sys.stdin)
sources = Checkout(Path(root))
found = {script: sources.describe(script, keys) for script, keys in declared.items()}
json.dump([found, read_parts(tricky, ())["f"].digest], sys.stdout)
"""


def ask(version: str, *arguments: str, told: str = "") -> subprocess.CompletedProcess[str]:
    """Run another interpreter, which needs none of our packages."""
    environment = os.environ | {"PYENV_VERSION": version, "PYTHONPATH": str(ROOT)}
    command = [f"python{version}", "-S", "-B", *arguments]
    return subprocess.run(
        command, env=environment, input=told, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_digests_are_equal_under_every_version_of_python() -> None:
    versions = ["3.11", "3.12", "3.13"]
    present = [v for v in versions if shutil.which(f"python{v}") and not ask(v, "-V").returncode]
    if len(present) < 2:
        pytest.skip(f"of the Pythons {versions} only {present} are here")
    declared = {script: sorted(keys) for script, keys in params_by_script(ROOT).items()}
    told = json.dumps([str(ROOT), declared, TRICKY])
    answers = [ask(version, "-c", CHILD, told=told) for version in present]
    assert [answer.stderr for answer in answers] == [""] * len(present)
    found, *others = [json.loads(answer.stdout) for answer in answers]
    assert others == [found] * len(others)
    assert found[0].keys() == declared.keys()


def test_what_was_found_is_kept_until_a_byte_of_the_sources_changes(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    write(LIBRARY | {"uvlm/tables/a.json": "1"})
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    assert recall(tmp_path) == {}
    remember(tmp_path, {"run": {"digest": "abc"}})
    assert recall(tmp_path) == {"run": {"digest": "abc"}}
    (tmp_path / "uvlm" / "__pycache__").mkdir()
    (tmp_path / "uvlm" / "__pycache__" / "a.pyc").write_bytes(b"1")
    assert recall(tmp_path) == {"run": {"digest": "abc"}}
    for name in ("uvlm/a.py", "uvlm/tables/a.json", "dvc.yaml", "pipeline/new.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        before = path.read_text() if path.exists() else None
        path.write_text(f"{before} ")
        assert recall(tmp_path) == {}, name
        path.unlink() if before is None else path.write_text(before)
        assert recall(tmp_path) == {"run": {"digest": "abc"}}, name
    (tmp_path / "project" / ".uvlm" / "code.json").write_text('{"sources": 1')
    assert recall(tmp_path) == {}
