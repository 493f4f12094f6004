"""dvc.yaml, the stage scripts, the parameters and the code say the same."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import grimp
import pytest

import uvlm
from pipeline import summarize
from pipeline.dvc_yaml import Declaration, params_by_script, read_declarations, stage_params
from pipeline.paths import code
from pipeline.profiles import compose, profile_names, read_document
from pipeline.reach import EXEMPT, PACKAGES, Checkout
from uvlm.config import Params

ROOT = Path(__file__).parents[1]
STAGES = list(read_declarations(ROOT).values())
STARTED_BY_NAME = {"uvlm.data.labels.pseudo.totalsegmentator_child"}  # a process, not an import
SCRIPTS = sorted({stage.script for stage in STAGES})


def test_the_graph_has_the_stages_of_the_design() -> None:
    names = [stage.name for stage in STAGES]
    assert names == [
        *("code", "download", "index", "preprocess"),
        *("pseudo_label@anatomy", "pseudo_label@airway", "pseudo_label@vessel", "label_maps"),
        *("tokenizer", "audit", "train_seg", "train_cls", "classify", "encode"),
        *("train_report", "generate", "evaluate", "summarize"),
    ]
    assert set(summarize.TRAININGS) <= set(names)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_runs_the_script_of_its_name_and_depends_on_it(stage: Declaration) -> None:
    arguments = stage.command.split()
    assert arguments[:3] == ["python", "-m", f"pipeline.{stage.script}"]
    assert arguments[3:] == stage.name.split("@")[1:]


def test_a_stage_depends_on_its_own_file_of_code_and_on_no_source() -> None:
    first, *others = STAGES
    assert first.deps == (*PACKAGES, "params.yaml")
    assert {dep for stage in others for dep in stage.deps if dep.startswith("data/code/")} == {
        str(code(stage.script)) for stage in others
    }
    for stage in others:
        assert stage.deps[0] == str(code(stage.script))
        assert not any(dep.startswith(PACKAGES) for dep in stage.deps), stage.name


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_one_page_that_names_its_stage(script: str) -> None:
    source = (ROOT / "pipeline" / f"{script}.py").read_text()
    docstring = ast.get_docstring(ast.parse(source)) or ""
    assert docstring.startswith(f"DVC stage `{script}`: ")
    assert source.count("\n") <= 85
    assert f'"{script}' in source.partition('if __name__ == "__main__":')[2] or "main(" in source


def test_every_dependency_is_an_output_of_an_earlier_stage() -> None:
    earlier = [*STAGES[0].outs]
    for stage in STAGES[1:]:
        for dep in stage.deps:
            assert dep in earlier, f"{stage.name}: {dep}"
        earlier += stage.outs


@pytest.mark.slow
def test_what_a_stage_reaches_lies_among_what_its_script_imports() -> None:
    """Another tool, which knows modules only, draws the outer bound."""
    imports = grimp.build_graph(*PACKAGES)
    sources = Checkout(ROOT)
    for script, declared in params_by_script(ROOT).items():
        reached = set(sources.describe(script, declared)["modules"])
        imported = imports.find_upstream_modules(f"pipeline.{script}") | {f"pipeline.{script}"}
        assert reached - STARTED_BY_NAME <= imported, script
        assert not {name for name in reached if name.startswith(EXEMPT)}, script


@pytest.mark.parametrize("profile", profile_names(ROOT))
def test_every_declared_parameter_exists_in_every_profile(profile: str) -> None:
    document = compose(ROOT, profile)
    for stage in STAGES[1:]:
        assert stage_params(document, stage), stage.name


def test_a_stage_declares_the_section_of_its_name_and_every_section_is_declared() -> None:
    sections = set(Params.model_fields)
    declared = {key.split(".")[0] for stage in STAGES for key in stage.params}
    assert declared == sections
    for stage in STAGES[1:]:
        own = (
            "evaluate" if stage.script == "classify" else stage.script
        )  # it scores as evaluate does
        assert own in {key.split(".")[0] for key in stage.params} | {"train"}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_outputs_can_be_taken_from_the_run_cache(stage: Declaration) -> None:
    document = read_document(ROOT / "dvc.yaml")["stages"][stage.script]
    assert not document.get("always_changed", False)
    assert not any(option.get("persist") for option in stage.outs.values())
    if stage.name != "summarize":  # it completes the run in MLflow
        for out in document.get("outs", []):
            is_page = isinstance(out, dict) and all(path.endswith(".html") for path in out)
            assert isinstance(out, str) or is_page, out


def test_numbers_and_curves_are_in_git_not_in_the_cache() -> None:
    for stage in STAGES:
        for path, option in stage.outs.items():
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
