"""One word for one thing: the glossary of CONTRIBUTING.md, held against the names in the code.

Only names are read (variables, functions, classes, arguments, modules), as Python itself reads
them; prose, strings and stored keys are not.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Collection
from functools import cache
from pathlib import Path

import pytest

from pipeline.dvc_yaml import params_by_script

ROOT = Path(__file__).parents[1]
ROOMS = ("uvlm", "pipeline", "benchmarks")
FILES = {
    str(file.relative_to(ROOT)): file for room in ROOMS for file in (ROOT / room).rglob("*.py")
}
# Where a name may hold the word; anywhere else it would mean another thing.
ONLY_IN = {
    "finding": (
        *("uvlm/text/", "uvlm/data/sets/", "uvlm/data/cases.py", "uvlm/data/ct/io.py"),
        *("uvlm/data/labels/findings.py", "uvlm/data/labels/merge.py"),
        *("uvlm/data/labels/label_maps.py", "uvlm/data/index.py", "uvlm/data/audit.py"),
        *("uvlm/config/data.py", "uvlm/evaluation/", "uvlm/inference/draft_folder.py"),
        *("uvlm/drafts/", "uvlm/dicom/"),  # in uvlm/dicom, words of the DICOM standard
        *("benchmarks/twins.py", "benchmarks/map_trust.py"),
        "uvlm/train/report_data.py",
    ),
    "fingerprint": ("pipeline/", "uvlm/train/", "uvlm/tracking.py"),
    "likeness": (
        *("uvlm/data/leaks/", "uvlm/data/preprocess.py", "uvlm/data/audit.py"),
        "pipeline/own/look.py",
    ),
    "labeller": (
        *("uvlm/evaluation/", "uvlm/config/evaluate.py", "uvlm/cli.py"),
        *("pipeline/check_params.py", "pipeline/download.py", "pipeline/train_report.py"),
        "pipeline/train_cls.py",
        *("pipeline/summarize.py", "pipeline/elsewhere.py", "pipeline/cue_control.py"),
        *("uvlm/text/claims.py", "uvlm/pages/", "benchmarks/constant_reports.py"),
        *("pipeline/own/look.py", "pipeline/rehearse/stand_ins.py", "pipeline/tables/"),
        "pipeline/runs/registry/scorers.py",
        *("uvlm/text/draft.py", "uvlm/drafts/"),
    ),
    "overlap": (
        *("uvlm/data/labels/", "uvlm/data/ct/", "uvlm/inference/sliding_window.py", "uvlm/train/"),
        *("uvlm/evaluation/masks.py", "uvlm/evaluation/segmentation.py"),
        *("uvlm/evaluation/surface.py", "benchmarks/windows.py", "benchmarks/monai_parts.py"),
    ),
    "contract": (
        *("uvlm/data/", "uvlm/model/", "uvlm/inference/", "uvlm/train/", "uvlm/cli.py"),
        *("pipeline/elsewhere.py", "pipeline/runs/lineage.py", "pipeline/runs/mlflow_models.py"),
        *("uvlm/text/draft.py", "uvlm/drafts/", "uvlm/dicom/", "benchmarks/map_trust.py"),
    ),
    "source": (
        *("uvlm/config/data.py", "uvlm/data/", "uvlm/store/", "uvlm/files.py", "uvlm/inference/"),
        *("uvlm/evaluation/score.py", "uvlm/pages/", "pipeline/summarize.py", "benchmarks/"),
        *("pipeline/rehearse/rehearse.py", "pipeline/tables/", "pipeline/runs/"),
        *("pipeline/remote.py", "pipeline/smoke/", "uvlm/dicom/", "pipeline/licences.py"),
    ),
    "flag": (
        *("uvlm/data/", "uvlm/evaluation/", "uvlm/text/", "uvlm/tables.py", "uvlm/arrays.py"),
        *("uvlm/pages/", "uvlm/train/", "benchmarks/", "pipeline/own/look.py"),
        *("pipeline/plan/counts.py", "pipeline/rehearse/abdomens.py", "pipeline/elsewhere.py"),
        *("pipeline/tables/", "uvlm/arm_record.py", "uvlm/dicom/"),
    ),
}
# Names that tell nothing, or that were two things at once.
MUTE = {
    *("fits", "crew", "declarations", "label_facts", "rows", "native", "lungs"),
    *("utils", "common", "helpers", "base", "core"),
}


def words(name: str) -> list[str]:
    """Cut a name into words in the singular: `check_flagsOf` into check, flag, of."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_")
    return [part if part.endswith("ss") else part.removesuffix("s") for part in parts if part]


@cache
def names(path: str) -> frozenset[str]:
    """Every name in a file."""
    text = io.StringIO(FILES[path].read_text(encoding="utf-8"))
    return frozenset(t.string for t in tokenize.generate_tokens(text.readline) if t.type == 1)


def classes(path: str) -> set[str]:
    tree = ast.parse(FILES[path].read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def holding(word: str, found: Collection[str]) -> list[str]:
    return sorted(name for name in found if word in words(name))


def glossary() -> dict[str, tuple[str, str]]:
    """The table: what each word means, and what to say for what it does not mean."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("## One word for one thing")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| \*\*(\w+)\*\* \| (.+?) \| (.+?) \|$", table, re.MULTILINE)
    return {word: (meaning, others) for word, meaning, others in rows}


def test_the_glossary_has_every_word_that_was_several_things() -> None:
    told = {"finding", "fingerprint", "label", "labeller", "source", "overlap", "contract"}
    assert told | ONLY_IN.keys() | {"stage", "report"} == glossary().keys()


def test_a_word_of_the_glossary_is_explained_with_another_word_for_the_others() -> None:
    for word, (meaning, others) in glossary().items():
        assert len(meaning.split()) >= 4, word
        assert re.search(r"\*\w[\w -]*\*", others), word


def test_names_are_cut_into_words() -> None:
    assert words("_check_FlagsOfReport2") == ["check", "flag", "of", "report2"]
    assert holding("source", {"CtRateSource", "resource", "SOURCES"}) == ["CtRateSource", "SOURCES"]


@pytest.mark.slow
@pytest.mark.parametrize("word", ONLY_IN)
def test_a_word_is_used_only_where_it_has_its_one_meaning(word: str) -> None:
    used = {path: found for path in FILES if (found := holding(word, names(path)))}
    assert used, "a word that no name holds needs no rule"
    assert {p: found for p, found in used.items() if not p.startswith(ONLY_IN[word])} == {}
    unused = [place for place in ONLY_IN[word] if not any(p.startswith(place) for p in FILES)]
    assert unused == []


@pytest.mark.slow
def test_a_data_set_is_no_source() -> None:
    assert {path: classes(path) for path in FILES if holding("source", classes(path))} == {}


@pytest.mark.slow
def test_only_the_pipeline_has_a_class_that_is_a_pipeline_stage() -> None:
    found = {path for path in FILES if "Stage" in classes(path)}
    assert found == {"pipeline/stage.py"}


@pytest.mark.slow
def test_no_module_or_folder_has_a_mute_name() -> None:
    parts = {part for path in FILES for part in Path(path).with_suffix("").parts}
    assert parts & MUTE == set()
    assert "crew" not in {word for path in FILES for name in names(path) for word in words(name)}


def imported(path: str) -> set[str]:
    """The modules that a file imports names from, and those names below them."""
    found = set()
    for node in ast.walk(ast.parse(FILES[path].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_a_stage_script_and_the_module_that_does_its_work_have_one_name() -> None:
    """Sections of parameters are named after stages too, and do no work."""
    agreeing = set()
    for script in params_by_script(ROOT):
        below = "uvlm/train/" if script.startswith("train_") else "uvlm/"
        own = [p for p in FILES if p.startswith(below) and not p.startswith("uvlm/config/")]
        name = script.removeprefix("train_")
        same = {p.removesuffix(".py").replace("/", ".") for p in own if Path(p).stem == name}
        assert same <= imported(f"pipeline/{script}.py"), script
        agreeing |= {script} if same else set()
    assert agreeing >= {
        *("index", "preprocess", "label_maps", "tokenizer", "audit", "encode", "generate"),
        *("evaluate", "train_seg", "train_cls", "train_report"),
    }
