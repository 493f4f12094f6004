"""What makes two runs of a stage the same, on the project's own dvc.yaml and code."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.dvc_yaml import read_declarations
from pipeline.profiles import compose, with_values
from pipeline.reach import PACKAGES
from pipeline.sweep.board import Board
from pipeline.sweep.engine import Sweep
from pipeline.sweep.graph import CODE_STAGE, Graph
from pipeline.sweep.run import plan_sweep
from pipeline.sweep.trial import Trial
from tests.pipeline.tables.records import flags, record
from uvlm.errors import SetupError

ROOT = Path(__file__).parents[3]
REPORT, CLASSES = "evaluate", "classify"


def trial(arm: str, document: Mapping[Any, Any], last_stage: str = REPORT) -> Trial:
    return Trial("t", "", arm, "phantom", 0, document, last_stage)


@pytest.fixture(scope="module")
def document() -> dict[Any, Any]:
    """The default profile."""
    return compose(ROOT, "phantom")


@pytest.fixture(scope="module")
def changed(document: dict[Any, Any]) -> Graph:
    """The graph of an arm and of others that differ from it in one parameter each."""
    values: dict[str, dict[str, Any]] = {
        "summary": {"summarize.num_examples": 7},
        "evaluation": {"evaluate.bootstrap_samples": 7},
        "decoder": {"decoder.dropout": 0.7},
        "segmentation": {"train_seg.steps": 7},
        "seed": {"seed": 7},
    }
    arms = {"plain": document} | {
        name: with_values(document, one, name) for name, one in values.items()
    }
    trials = [trial(name, one) for name, one in arms.items()]
    return Graph(ROOT, [*trials, trial("classes", document, CLASSES)])


def rerun(graph: Graph, arm: str) -> set[str]:
    """Which stages of an arm are not those of the plain one."""
    plain, other = graph.ways["plain-phantom-seed0"], graph.ways[f"{arm}-phantom-seed0"]
    return {name for name, node in other.items() if node is not plain.get(name)}


@pytest.mark.slow
def test_a_parameter_reruns_the_stages_that_read_it_and_those_behind_them(changed: Graph) -> None:
    assert rerun(changed, "summary") == set()
    assert rerun(changed, "evaluation") >= {"evaluate"}
    assert not rerun(changed, "evaluation") & {"train_seg", "train_cls", "encode"}
    assert rerun(changed, "decoder") == {"train_report", "generate", "evaluate"}
    trained = {"train_seg", "train_cls", "encode", "train_report", "generate", "evaluate"}
    assert rerun(changed, "segmentation") == trained
    assert rerun(changed, "seed") >= {"download", "index", *trained}


@pytest.mark.slow
def test_an_arm_stays_done_if_only_others_stages_changed(changed: Graph) -> None:
    trials = {one.arm: one for one in changed.trials}
    keys = {arm: changed.last(one).key for arm, one in trials.items()}
    assert keys["summary"] == keys["plain"]
    assert len(set(keys.values())) == len(keys) - 1


def test_an_arm_needs_the_stages_before_its_last_and_no_other(changed: Graph) -> None:
    trials = {one.arm: one for one in changed.trials}
    assert changed.way(trials["plain"])[0] == CODE_STAGE
    report, classes = (set(changed.way(trials[arm])) for arm in ("plain", "classes"))
    assert not report & {"summarize", CLASSES}
    assert not classes & {"encode", "train_report", "generate", REPORT, "summarize"}
    assert rerun(changed, "classes") == {CLASSES}


@pytest.mark.slow
def test_keys_are_the_same_on_another_computer(document: dict[Any, Any], tmp_path: Path) -> None:
    ways = []
    for name in ("here", "over there/in a longer path"):
        folder = tmp_path / name
        for package in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, folder / package, ignore=ignored)
        shutil.copy(ROOT / "dvc.yaml", folder)
        ways.append(Graph(folder, [trial("a", document)]).ways["a-phantom-seed0"])
    assert {name: node.key for name, node in ways[0].items()} == {
        name: node.key for name, node in ways[1].items()
    }
    assert ways[0].keys() == read_declarations(ROOT).keys() - {CODE_STAGE, CLASSES, "summarize"}


def test_a_project_that_is_no_clone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="run this in a clone with a commit"):
        plan_sweep(tmp_path, "nothing", [], 1)


def test_the_time_left_counts_what_records_tell_of_other_parameters(
    document: dict[Any, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trial("plain", with_values(document, {"train_seg.steps": 7}, "test"), CLASSES)
    graph = Graph(ROOT, [one])
    seconds = dict.fromkeys(graph.ways[one.name], 60.0)
    labels = flags(0)
    told = record(document, "table4_04", 0, labels, labels, seconds=seconds)
    monkeypatch.setattr("pipeline.sweep.durations.read_records", lambda: [])
    for records, said in ((told,), f"about {len(seconds)}:00 left"), ((), "has not run on this"):
        board = Board(1, 0, records)
        board._last_line -= 60
        board.look(Sweep(graph, [one], set(), 1, cast(Any, None), cast(Any, None)))
        assert said in capsys.readouterr().err
