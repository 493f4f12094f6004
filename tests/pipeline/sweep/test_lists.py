"""Lists of arms: what they compose, and what is refused in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.profiles import compose, with_values
from pipeline.sweep.lists import read_trials
from pipeline.sweep.trial import Trial, check_names
from uvlm.errors import ConfigError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's conf/."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    return tmp_path


def write(project: Path, text: str) -> None:
    (project / "conf" / "sweep" / "mine.yaml").write_text(text)


def test_every_arm_comes_with_every_seed_and_with_what_it_changes(project: Path) -> None:
    write(
        project,
        "base: {train_seg.steps: 7}\narms:\n  a: {}\n  b: {train_cls.optim.lr: 0.5}\n",
    )
    trials = read_trials(project, "mine", "phantom", 2)
    assert [(t.arm, t.seed) for t in trials] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    plain = compose(project, "phantom")
    for trial in trials:
        assert trial.document["train_seg"] == plain["train_seg"] | {"steps": 7}
        assert trial.document["seed"] == trial.seed
        lr = 0.5 if trial.arm == "b" else plain["train_cls"]["optim"]["lr"]
        assert trial.document["train_cls"]["optim"]["lr"] == lr
    assert plain["train_seg"]["steps"] != 7


def test_the_short_list_has_sixteen_arms() -> None:
    trials = read_trials(ROOT, "short", "phantom", 1)
    assert len(trials) == len({t.name for t in trials}) == 16


@pytest.mark.slow
def test_arms_of_tables_stand_on_the_base_of_a_list(project: Path) -> None:
    write(
        project,
        "base: {train_seg.steps: 7}\narms_of: [table4, table5_07]\narms: {mine: {}}\n",
    )
    trials = read_trials(project, "mine", "phantom", 1)
    names = ["table4_01", "table4_02", "table4_03", "table4_04", "table5_07", "mine"]
    assert [t.arm for t in trials] == names
    assert [t.document["train_seg"]["steps"] for t in trials] == [0, 7, 7, 7, 7, 7]
    plain = read_trials(project, "table5_07", "phantom", 1)[0]
    assert trials[4].document == with_values(plain.document, {"train_seg.steps": 7}, "")
    assert (trials[4].table, trials[4].row, trials[4].last_stage) == ("table5", "7", "evaluate")


@pytest.mark.slow
def test_arms_that_differ_only_in_where_they_end_are_two(project: Path) -> None:
    write(project, "arms_of: [table4_04, table5_07]")
    first, second = read_trials(project, "mine", "phantom", 1)
    assert (first.last_stage, second.last_stage) == ("classify", "evaluate")
    assert (first.scored, second.scored) == ("classification", "report")


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["longtail", "phantom_abdomen"])
def test_the_replication_has_every_arm_of_its_plan(profile: str) -> None:
    trials = read_trials(ROOT, "replication", profile, 3)
    assert len(trials) == 3 * 12
    shuffled = {
        t.arm: (
            t.document["train_cls"]["shuffle_labels"],
            t.document["train_report"]["shuffle_reports"],
        )
        for t in trials
    }
    assert [arm for arm, flags in shuffled.items() if any(flags)] == [
        "controls_labels",
        "controls_reports",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arms: {a: {train_cls.lr: 1}}", "no parameter is called train_cls.lr"),
        ("arms: {a: {train_cls.steps: -1}}", "mine.yaml, arm a"),
        ("arms: {a: {seed: 3}}", "a sets the seed"),
        ("arms: {a: {}, b: {}}", "b and a have the same parameters"),
        ("arms: {}", "holds no arm"),
        ("base: {seed: 3}\narms: {a: {}}", "base sets the seed"),
        ("arms_of: [nothing]", "no arm and no group"),
        ("base: {train_seg.stops: 3}\narms_of: [table4]", "no parameter is called train_seg.stops"),
        ("arms_of: [table5_09, table5]", "same parameters"),
        ("arm: {a: {}}", "arm"),
        ("arms: [", "not readable as YAML"),
        ("just text", "holds no keys"),
        ("arms: {'a b': {}}", "is no name for an arm"),
        ("arms: {../a: {}}", "is no name for an arm"),
    ],
)
def test_a_wrong_list_is_one_line(project: Path, text: str, said: str) -> None:
    write(project, text)
    with pytest.raises(ConfigError, match=said):
        read_trials(project, "mine", "phantom", 1)


def test_a_name_that_is_no_list_and_no_arm_is_one_line(project: Path) -> None:
    with pytest.raises(ConfigError, match="nothing"):
        read_trials(project, "nothing", "phantom", 1)


def test_a_copy_is_changed_and_not_the_document() -> None:
    document = {"a": {"b": 1, "c": [1]}}
    changed = with_values(document, {"a.c": [2]}, Path("x"))
    assert (document, changed) == ({"a": {"b": 1, "c": [1]}}, {"a": {"b": 1, "c": [2]}})


def test_one_name_is_one_arm() -> None:
    trial = Trial("t", "", "a", "p", 0, {})
    with pytest.raises(ConfigError, match="twice"):
        check_names([trial, trial])
