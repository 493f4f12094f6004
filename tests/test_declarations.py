"""dvc.yaml, the stage scripts, the parameters and the code say the same."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import grimp
import pytest

import uvlm
from pipeline import summarize
from pipeline.dvc_yaml import Declaration, read_declarations, stage_params
from pipeline.profiles import compose, profile_names, read_document
from uvlm.config import Params

ROOT = Path(__file__).parents[1]
STAGES = list(read_declarations(ROOT).values())
SCRIPTS = sorted({stage.script for stage in STAGES})
# Changing what these say in an error or how they store a record changes no stage's result;
# parameters count by value.
SHARED = {"uvlm", "uvlm.errors", "uvlm.tracking"}
SHARED_PACKAGES = ("uvlm.config", "uvlm.store")


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("uvlm", "pipeline")


def modules_of(imports: grimp.ImportGraph, script: str) -> set[str]:
    """Every module of the library that a stage script reaches."""
    direct = imports.find_modules_directly_imported_by(f"pipeline.{script}")
    library = {m for m in direct if m.split(".")[0] == "uvlm"}
    reached = library.union(*(imports.find_upstream_modules(module) for module in library))
    return {m for m in reached - SHARED if not m.startswith(SHARED_PACKAGES)}


def source_of(module: str) -> str:
    path = module.replace(".", "/")
    return f"{path}.py" if (ROOT / f"{path}.py").exists() else f"{path}/__init__.py"


def is_covered(path: str, deps: tuple[str, ...]) -> bool:
    return any(path == dep or path.startswith(f"{dep}/") for dep in deps)


def test_the_graph_has_the_stages_of_the_design() -> None:
    names = [stage.name for stage in STAGES]
    assert [*summarize.STAGES, "summarize"] == names
    assert set(summarize.TRAININGS) <= set(names)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_runs_the_script_of_its_name_and_depends_on_it(stage: Declaration) -> None:
    arguments = stage.command.split()
    assert arguments[:3] == ["python", "-m", f"pipeline.{stage.script}"]
    assert arguments[3:] == stage.name.split("@")[1:]
    assert f"pipeline/{stage.script}.py" in stage.deps


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_one_page_that_names_its_stage(script: str) -> None:
    source = (ROOT / "pipeline" / f"{script}.py").read_text()
    docstring = ast.get_docstring(ast.parse(source)) or ""
    assert docstring.startswith(f"DVC stage `{script}`: ")
    assert source.count("\n") <= 85
    assert f'"{script}' in source.partition('if __name__ == "__main__":')[2] or "main(" in source


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_every_dependency_is_code_of_the_project_or_an_output_of_an_earlier_stage(
    stage: Declaration,
) -> None:
    earlier: list[str] = []
    for other in STAGES:
        if other.name == stage.name:
            break
        earlier += other.outs
    for dep in stage.deps:
        is_code = dep.startswith(("uvlm/", "pipeline/")) and (ROOT / dep).exists()
        assert is_code or is_covered(dep, tuple(earlier)), dep


@pytest.mark.parametrize("script", SCRIPTS)
def test_dependencies_cover_what_a_script_imports_and_nothing_else(
    script: str, imports: grimp.ImportGraph
) -> None:
    stage = next(stage for stage in STAGES if stage.script == script)
    sources = {source_of(module) for module in modules_of(imports, script)}
    needed = {path for path in sources if not path.endswith("__init__.py")}
    assert {path for path in needed if not is_covered(path, stage.deps)} == set()
    code = [dep for dep in stage.deps if dep.startswith("uvlm/") and dep.endswith(".py")]
    assert set(code) - needed == set()


@pytest.mark.parametrize("profile", profile_names(ROOT))
def test_every_declared_parameter_exists_in_every_profile(profile: str) -> None:
    document = compose(ROOT, profile)
    for stage in STAGES:
        assert stage_params(document, stage), stage.name


def test_a_stage_declares_the_section_of_its_name_and_every_section_is_declared() -> None:
    sections = set(Params.model_fields)
    declared = {key.split(".")[0] for stage in STAGES for key in stage.params}
    assert declared == sections
    for stage in STAGES:
        assert stage.script in {key.split(".")[0] for key in stage.params} | {"train"}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_outputs_can_be_taken_from_the_run_cache(stage: Declaration) -> None:
    document = read_document(ROOT / "dvc.yaml")["stages"][stage.script]
    assert not document.get("always_changed", False)
    assert not any(option.get("persist") for option in stage.options.values())
    if stage.name != "summarize":  # it completes the run in MLflow
        for out in document.get("outs", []):
            is_page = isinstance(out, dict) and all(path.endswith(".html") for path in out)
            assert isinstance(out, str) or is_page, out


def test_numbers_and_curves_are_in_git_not_in_the_cache() -> None:
    for stage in STAGES:
        for path, option in stage.options.items():
            assert (option.get("cache") is False) == path.startswith("reports/"), path


def test_no_two_stages_write_the_same_output() -> None:
    outs = [out for stage in STAGES for out in stage.outs]
    assert len(outs) == len(set(outs))


def test_every_public_name_can_be_imported_and_is_typed() -> None:
    assert sorted(uvlm.__all__) == uvlm.__all__
    assert dir(uvlm) == uvlm.__all__
    for name in uvlm.__all__:
        assert getattr(uvlm, name) is not None
    tree = ast.parse((ROOT / "uvlm" / "__init__.py").read_text())
    typed = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("uvlm.")
        for alias in node.names
    }
    assert typed | {"__version__"} == set(uvlm.__all__)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Volumes'"):
        importlib.import_module("uvlm").Volumes  # noqa: B018
