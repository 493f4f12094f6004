"""The whole pipeline on a few small phantoms, twice, in a temporary copy of the project."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.dvc_yaml import params_by_script, read_declarations
from pipeline.profiles import read_document, write_params
from pipeline.reach import EXEMPT, Checkout
from tests.pipeline.tiny_project import commit_copy, run

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def project(root: Path, tmp_path: Path, tiny_document: dict[Any, Any]) -> Path:
    """A committed copy of the working tree with tiny parameters."""
    commit_copy(root, tmp_path / "project", tiny_document)
    return tmp_path / "project"


def test_the_pipeline_runs_once_and_then_has_nothing_to_do(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        (tmp_path / "sitecustomize.py").write_text(_WRITE_DOWN_WHAT_RUNS)
        (tmp_path / "calls").mkdir()
        patch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{project}")
        patch.setenv("CALLS", str(tmp_path / "calls"))
        patch.setenv("PYTHONDONTWRITEBYTECODE", "yes")  # or a stage reads code without its notes
        first = run(project, "dvc", "repro")
    assert "is empty" not in first.stderr
    assert calls_not_reached(project, tmp_path / "calls") == {}
    stages = read_declarations(project)
    for name, stage in stages.items():
        assert f"Running stage '{name}'" in first.stdout
        for out in stage.outs:
            assert (project / out).exists(), f"{name} left no {out}"
    metrics = json.loads((project / "reports" / "metrics.json").read_text())
    assert metrics["n"] > 0
    for name, baseline in metrics["baselines"].items():
        assert metrics["oracle"]["macro_f1"] > baseline["macro_f1"], name
    statuses = run(
        project, sys.executable, "-c", _CHILDREN.format(database=project / "mlflow.db")
    ).stdout
    assert json.loads(statuses) == {**dict.fromkeys(stages, "FINISHED"), "parent": "FINISHED"}

    start = time.monotonic()
    second = run(project, "dvc", "repro")
    assert "Running stage" not in second.stdout
    assert time.monotonic() - start < 20
    assert not run(project, "dvc", "status", "--json").stdout.strip().strip("{}")

    source = project / "uvlm" / "train" / "loop" / "fit.py"
    source.write_text(source.read_text().replace('"""', '"""In other words: ', 1))
    third = run(project, "dvc", "repro")
    assert re.findall(r"Running stage '(.*)'", third.stdout) == ["code"]

    params = read_document(project / "params.yaml")
    params["summarize"]["num_examples"] = 2
    write_params(project, params)
    fourth = run(project, "dvc", "repro")
    assert re.findall(r"Running stage '(.*)'", fourth.stdout) == ["code", "summarize"]

    write_params(project, params | {"train_clss": {"steps": 3}})
    wrong = run(project, "dvc", "repro", code=255)
    assert re.findall(r"Running stage '(.*)'", wrong.stdout) == ["code"]
    assert "unknown parameter train_clss; nearest valid key is train_cls" in wrong.stderr


def calls_not_reached(project: Path, folder: Path) -> dict[str, list[str]]:
    """The functions of ours that a stage ran and that its file of data/code does not cover.

    What the stage `code` ran as well belongs to how a stage is run.
    """
    sources, declared = Checkout(project), params_by_script(project)
    ran: dict[str, set[str]] = {}
    for file in folder.iterdir():
        ran.setdefault(file.name.split(".")[1], set()).update(file.read_text().splitlines())
    assert ran.keys() == declared.keys() | {"code"}
    missing = {}
    for script in declared:
        covered = {
            f"{node.module} {node.name}" for node in sources.reached(script, declared[script])
        }
        calls = ran[script] - ran["code"] - covered
        assert len(ran[script] & covered) > 10, script
        missing[script] = [call for call in calls if not f"{call} ".startswith(EXEMPT)]
    return {script: calls for script, calls in missing.items() if calls}


# Functions and classes of ours that are called, but not by importing a module, recording a run,
# checking the parameters or the store, or estimating memory. Each function says so itself, by a
# call that is put before its first statement when its module is read: a trace function would be
# told of every call of every library, and a stage that imports torch makes millions.
_WRITE_DOWN_WHAT_RUNS = """
import ast, atexit, builtins, os, sys
from importlib.machinery import SourceFileLoader

ran, root = {}, os.getcwd() + os.sep  # by id, as the hash of code is made anew each time
outside = ("<frozen importlib._bootstrap>", *(
    root + name for name in (
        "pipeline/runs", "pipeline/check_params.py", "pipeline/stored_inputs.py", "uvlm/estimates"
    )
))


def note():
    frame = sys._getframe(1)
    code = frame.f_code
    if id(code) in ran:
        return
    while frame and not frame.f_code.co_filename.startswith(outside):
        frame = frame.f_back
    if frame is None:
        ran[id(code)] = code


def with_notes(self, data, path, *, _optimize=-1):
    if not str(path).startswith((f"{root}uvlm", f"{root}pipeline")):
        return plain(self, data, path, _optimize=_optimize)
    tree = ast.parse(data)
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda):
            node.body = ast.BoolOp(ast.Or(), [call(), node.body])
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body.insert(ast.get_docstring(node, clean=False) is not None, ast.Expr(call()))
    return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)


def call():
    return ast.Call(ast.Name("__note__", ast.Load()), [], [])


def leave(folder, script):
    with open(os.path.join(folder, f"{script}.{os.getpid()}"), "w") as file:
        for code in list(ran.values()):
            module = code.co_filename[len(root):-3].replace(os.sep, ".").removesuffix(".__init__")
            name = code.co_qualname.partition(".")[0]
            if not name.startswith("<"):
                file.write(f"{module} {name}\\n")


builtins.__note__ = note  # also where a function is sent to
if sys.orig_argv[1:2] == ["-m"] and sys.orig_argv[2].startswith("pipeline."):
    plain, SourceFileLoader.source_to_code = SourceFileLoader.source_to_code, with_notes
    atexit.register(leave, os.environ["CALLS"], sys.orig_argv[2])
"""


_CHILDREN = """
import json
from mlflow.tracking import MlflowClient
client = MlflowClient("sqlite:///{database}")
runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
print(json.dumps({{r.data.tags.get("dvc.stage", "parent"): r.info.status for r in runs}}))
"""
