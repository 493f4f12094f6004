"""The order in which a sweep runs stages, on graphs without processes.

The floor below runs jobs in steps of a clock and can kill any of them; what DVC would note of a
killed job is the stages that it had finished by then.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dvc_yaml import Declaration
from pipeline.sweep.durations import least_seconds
from pipeline.sweep.engine import Job, Outcome, Sweep
from pipeline.sweep.graph import CODE_STAGE, Graph, Node
from pipeline.sweep.trial import Trial

# What each stage of the small pipeline needs.
NEEDS = {
    "index": (), "left": ("index",), "right": ("index",), "seg": ("left", "right"),
    "cls": ("seg",), "evaluate": ("cls",),
}  # fmt: skip


LINE = {"index": (), "cls": ("index",), "evaluate": ("cls",)}


def graph_of(
    settings_by_arm: dict[str, dict[str, int]], needed: Mapping[str, Sequence[str]] = NEEDS
) -> Graph:
    """A graph of arms whose stages differ as their settings do."""
    trials = [Trial("t", name, name, "p", 0, {}) for name in settings_by_arm]
    nodes: dict[str, Node] = {}
    ways: dict[str, dict[str, Node]] = {}
    for trial in trials:
        keys: dict[str, str] = {}
        ways[trial.name] = {}
        for stage, needs in needed.items():
            before = sorted(keys[need] for need in needs)
            keys[stage] = f"{stage}{settings_by_arm[trial.arm].get(stage, 0)}({','.join(before)})"
            declaration = Declaration(stage, "", (), (), {})
            own = keys[stage].partition("(")[0]
            new = Node(keys[stage], declaration, frozenset(before), own=own)
            node = nodes.setdefault(keys[stage], new)
            node.trials.append(trial)
            ways[trial.name][stage] = node
    made = SimpleNamespace(trials=trials, nodes=nodes, ways=ways)
    made.last = lambda trial: ways[trial.name]["evaluate"]
    made.after = lambda lost: Graph.after(cast(Graph, made), lost)
    return cast(Graph, made)


def content(key: str) -> str:
    """What DVC sees of a node: whatever its settings, `index` leaves the same."""
    return key if key.startswith("index") else re.sub(r"index\d", "index", key)


@dataclass(eq=False)
class Floor:
    """Runs each stage for one step; stages that fail, and jobs that are killed by chance.

    It is DVC too: what another job had made before a stage began is restored, and does not run.
    """

    fails: set[str] = field(default_factory=set)
    chance: random.Random | None = None
    now: int = 0
    runs: Counter[str] = field(default_factory=Counter)  # by content
    made_at: dict[str, int] = field(default_factory=dict)
    noted: set[tuple[int, str]] = field(default_factory=set)  # by job and node
    jobs: list[Job] = field(default_factory=list)
    most: int = 0
    alive: int = 0
    begun: list[str] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)  # how many nodes were done at each step
    problems: dict[str, str] = field(default_factory=dict)

    def start(self, job: Job) -> Any:
        """Start a job; one that ends a trial asks DVC for the outputs of its last stage."""
        assert not job.is_last or job.stages[-1] == job.trial.last_stage
        self.alive += 1
        self.jobs.append(job)
        self.most = max(self.most, self.alive)
        begin = self.now
        return SimpleNamespace(
            outcome=lambda: self._outcome(job, begin),
            done=lambda: job.stages[: self.now - begin] if not self.fails else (),
        )

    def key(self, node: Node) -> str | None:
        """Name a run as DVC does."""
        return content(node.key)

    def has(self, node: Node) -> bool:
        """Whether it was made."""
        return self.made_at.get(content(node.key), self.now + 1) <= self.now

    def _outcome(self, job: Job, begin: int) -> Outcome | None:
        keys = {node.stage: node.key for node in job.nodes}
        kill = self.chance is not None and self.chance.random() < 0.2
        done = job.stages[: self.now - begin]
        self._make([keys[stage] for stage in done if stage in keys], job, begin)
        for number, stage in enumerate(job.stages[: self.now - begin + 1]):
            if keys.get(stage) in self.fails:
                return self._end(job.stages[:number], f"{stage}: failed")
        if kill:
            return self._end(done, "it: was killed")
        return self._end(done, "") if len(done) == len(job.stages) else None

    def _make(self, keys: list[str], job: Job, begin: int) -> None:
        """Note what a job has run, each stage a step after the one before it."""
        first = len(job.stages) - len(job.nodes)  # `code` comes first
        for number, key in enumerate(keys, begin + (0 if job.is_last and not job.nodes else first)):
            made_at = self.made_at.setdefault(content(key), number + 1)
            if made_at > number and (id(job), key) not in self.noted:
                self.runs[content(key)] += 1
            self.noted.add((id(job), key))

    def _end(self, done: Sequence[str], problem: str) -> Outcome:
        self.alive -= 1
        return Outcome(tuple(done), problem)

    def began(self, trial: Trial) -> None:
        """Note it."""
        self.begun.append(trial.name)

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        """Note it."""
        assert trial.name not in self.problems
        self.problems[trial.name] = outcome.problem

    def look(self, sweep: Sweep) -> None:
        """Let a step pass."""
        self.now += 1
        self.seen.append(len(sweep.done))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.sweep.engine.time.sleep", lambda _: None)


def sweep_of(graph: Graph, floor: Floor, workers: int, done: set[str] | None = None) -> Sweep:
    return Sweep(graph, list(graph.trials), set(done or ()), workers, floor, floor)


ARMS = {"a": {}, "b": {"cls": 1}, "c": {"cls": 1, "evaluate": 2}, "d": {"seg": 1}}


def test_shared_stages_run_once_and_every_arm_ends() -> None:
    graph, floor = graph_of(ARMS), Floor()
    sweep = sweep_of(graph, floor, 2)
    sweep.run()
    assert floor.problems == {f"{name}-p-seed0": "" for name in "abcd"}
    assert floor.runs == dict.fromkeys(map(content, graph.nodes), 1)
    assert sum(key.startswith("seg") for key in floor.runs) == 2  # 0 and 1
    assert sum(key.startswith("index") for key in floor.runs) == 1
    assert floor.most == 2


def test_an_arm_alone_still_fills_two_workers() -> None:
    graph, floor = graph_of({"a": {}}), Floor()
    sweep_of(graph, floor, 2).run()
    assert floor.most == 2  # left and right
    assert floor.problems == {"a-p-seed0": ""}


def test_what_a_job_has_done_is_known_while_it_goes_on() -> None:
    graph, floor = graph_of({"a": {}}), Floor()
    sweep_of(graph, floor, 1).run()
    assert floor.seen == sorted(floor.seen)
    assert {3, 4, 5} <= set(floor.seen)  # seg, cls and evaluate are one job


def test_work_that_is_cached_is_not_run_and_its_arm_still_ends() -> None:
    graph, floor = graph_of({"a": {}, "b": {"evaluate": 1}}), Floor()
    cached = {node.key for node in graph.ways["a-p-seed0"].values()}
    sweep_of(graph, floor, 2, cached).run()
    assert list(floor.runs) == [content(graph.ways["b-p-seed0"]["evaluate"].key)]
    assert set(floor.problems.values()) == {""}


def order_of_arms(seconds: Mapping[str, float]) -> list[str]:
    """One worker; `d` lacks its training, `a` and `b` only their scores, which take unlike long."""
    graph, floor = graph_of(ARMS), Floor()
    trained = [n.key for arm in "ab" for n in graph.ways[f"{arm}-p-seed0"].values()]
    done = {key for key in trained if not key.startswith("evaluate")}
    weights = {key: seconds[node.stage] for key, node in graph.nodes.items()}
    Sweep(graph, list(graph.trials), done, 1, floor, floor, weights).run()
    return [job.trial.arm for job in floor.jobs]


def test_ends_that_are_near_come_before_the_longest_way() -> None:
    seconds = {"index": 1.0, "left": 1.0, "right": 1.0, "seg": 100.0, "cls": 100.0, "evaluate": 9.0}
    assert order_of_arms(seconds) == ["a", "b", "c", "d"]
    assert order_of_arms(seconds | {"evaluate": 90.0})[0] == "d"


def test_a_stage_that_fails_ends_only_the_arms_that_need_it() -> None:
    graph = graph_of(ARMS)
    floor = Floor(fails={graph.ways["b-p-seed0"]["cls"].key})
    sweep = sweep_of(graph, floor, 2)
    sweep.run()
    failed = {name for name, problem in floor.problems.items() if problem}
    assert failed == {"b-p-seed0", "c-p-seed0"} == set(sweep.failed)
    assert len(floor.problems) == 4


def test_wrong_parameters_of_one_arm_end_only_that_arm() -> None:
    graph = graph_of({"a": {}, "b": {"evaluate": 1}})

    class WrongA(Floor):
        def start(self, job: Job) -> Any:
            if job.trial.arm == "a":
                wrong = Outcome((), f"{CODE_STAGE}: is wrong")
                return SimpleNamespace(outcome=lambda: wrong, done=lambda: ())
            return super().start(job)

    floor = WrongA()
    sweep_of(graph, floor, 2).run()
    assert floor.problems == {"a-p-seed0": "code: is wrong", "b-p-seed0": ""}


@pytest.mark.parametrize("needed", [NEEDS, LINE])
def test_two_ways_to_the_same_data_are_gone_once(needed: Mapping[str, Sequence[str]]) -> None:
    """Other settings of `index` that change nothing in what it leaves."""
    arms = {"a": {}, "b": {"index": 1}, "c": {"index": 2, "evaluate": 1}}
    graph, floor = graph_of(arms, needed), Floor()
    sweep_of(graph, floor, 3).run()
    assert set(floor.problems.values()) == {""}
    assert floor.runs == dict.fromkeys(map(content, graph.nodes), 1)
    assert len(floor.runs) < len(graph.nodes)


@settings(deadline=None, max_examples=60)
@given(
    arms=st.lists(
        st.dictionaries(st.sampled_from(list(NEEDS)), st.integers(0, 2)), min_size=1, max_size=8
    ),
    workers=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_kills_at_any_moment_lose_nothing_and_repeat_nothing(
    arms: list[dict[str, int]], workers: int, seed: int
) -> None:
    graph = graph_of({str(number): arm for number, arm in enumerate(arms)})
    chance, done = random.Random(seed), set[str]()
    records: set[str] = set()
    floor = Floor()
    for attempt in range(200):
        floor.chance, floor.problems = chance if attempt < 100 else None, {}
        left = [trial for trial in graph.trials if trial.name not in records]
        sweep = Sweep(graph, left, set(done), workers, floor, floor)
        sweep.run()
        assert floor.most <= workers
        done = sweep.done
        records |= {name for name, problem in floor.problems.items() if not problem}
        if len(records) == len(graph.trials):
            break
    assert floor.runs == dict.fromkeys(map(content, graph.nodes), 1)
    assert records == {trial.name for trial in graph.trials}


def test_the_least_time_is_that_of_all_work_or_of_the_longest_way() -> None:
    graph = graph_of({"a": {}, "b": {"evaluate": 1}})
    seconds = dict.fromkeys(graph.nodes, 1.0)
    nodes = list(graph.nodes.values())
    assert len(nodes) == 7
    assert least_seconds(nodes, seconds, 1) == 7.0
    assert least_seconds(nodes, seconds, 2) == 5.0  # index, left, seg, cls, evaluate
    assert least_seconds([], {}, 2) == 0.0
