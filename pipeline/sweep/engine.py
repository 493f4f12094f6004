"""The sweep itself: gives free slots whatever can run, until every trial has ended.

A node can run when all that it needs is in DVC's run cache. It runs in the slot of one of its
trials, the host; for the other trials DVC restores what it made. As long as exactly one node
becomes possible by the last, the worker goes on with it, without going back to the sweep.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from pipeline.sweep.graph import CODE_STAGE, Graph, Node
from pipeline.sweep.trial import Trial

_NEAR: Final = 0.1  # of the longest way: an end that costs the longest little time
_LOOK_EVERY_S: Final = 0.2


@dataclass(frozen=True)
class Job:
    """What one worker runs: nodes of one trial in a row; `is_last` if the trial ends with them.

    `stages` are asked of DVC in this order. It restores what they need and the run cache holds.
    """

    trial: Trial
    nodes: tuple[Node, ...]
    stages: tuple[str, ...]
    is_last: bool


@dataclass(frozen=True)
class Outcome:
    """How a worker ended.

    Args:
        done: the stages that DVC has noted.
        problem: what stopped it, if anything did; `code` is the exit code of the stage.
        log: where everything is that it said.
    """

    done: tuple[str, ...]
    problem: str = ""
    code: int = 0
    log: Path | None = None


class Worker(Protocol):
    """A running job."""

    def done(self) -> Sequence[str]:
        """List the stages that DVC has noted so far."""
        ...

    def outcome(self) -> Outcome | None:
        """Return how it ended; None while it runs."""
        ...


class Floor(Protocol):
    """Where jobs run, and who is told of trials."""

    def start(self, job: Job) -> Worker:
        """Start a job in a free slot."""
        ...

    def began(self, trial: Trial) -> None:
        """Note that a trial has begun."""
        ...

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        """Note that a trial has ended; `outcome` is of the job that ended it."""
        ...

    def look(self, sweep: Sweep) -> None:
        """Show how far everything is."""
        ...


class Runs(Protocol):
    """What DVC knows of runs by what was really made; see `run_cache.KnownRuns`."""

    def key(self, node: Node) -> str | None:
        """Name the run that a node is; None while something before it is not known."""
        ...

    def has(self, node: Node) -> bool:
        """Tell whether DVC would restore a node."""
        ...


@dataclass(eq=False)
class Sweep:
    """All that is still to do.

    Args:
        graph: nodes and trials.
        trials: those that have no record yet.
        done: keys of nodes whose outputs are in the run cache.
        num_workers: how many jobs run at once.
        floor: where they run.
        runs: by which nodes with unlike keys are found to be one run.
        weights: seconds that each node took before, to begin with the longest way.
    """

    graph: Graph
    trials: list[Trial]
    done: set[str]
    num_workers: int
    floor: Floor
    runs: Runs
    weights: Mapping[str, float] = field(default_factory=dict)
    running: dict[Job, Worker] = field(default_factory=dict)
    failed: dict[str, Outcome] = field(default_factory=dict)  # by trial
    checked: set[str] = field(default_factory=set)  # trials whose stage `code` has run
    begun: set[str] = field(default_factory=set)
    started: dict[Job, float] = field(default_factory=dict)  # when the present stage began

    def __post_init__(self) -> None:
        self._ways = dict(self._longest_ways())
        self._asked: dict[str, int] = {}  # how many nodes were done when DVC was asked for one

    def run(self, check: Callable[[], None] = lambda: None) -> None:
        """Work until nothing is left that can run; `check` is called often and may end it."""
        while self._fill() or self.running:
            check()
            self.floor.look(self)
            time.sleep(_LOOK_EVERY_S)
            for job, worker in list(self.running.items()):
                self._take_over(job, worker.done())
                if (outcome := worker.outcome()) is not None:
                    del self.running[job]
                    self._note(job, outcome)

    def todo(self) -> list[Node]:
        """List the nodes that open trials still need, those that run now included."""
        wanted = {node.key for t in self.trials for node in self.graph.ways[t.name].values()}
        return [n for key, n in self.graph.nodes.items() if key in wanted - self.done]

    def _fill(self) -> bool:
        """Start jobs while slots are free; tell whether any was started."""
        started = False
        while len(self.running) < self.num_workers and (job := self._next()) is not None:
            if job.trial.name not in self.begun:
                self.begun.add(job.trial.name)
                self.floor.began(job.trial)
            self.running[job] = self.floor.start(job)
            self.started[job] = time.monotonic()
            started = True
        return started

    def _next(self) -> Job | None:
        """Choose what to run next: an end that has only to be written, a near one, the longest way.

        Near ends first, so that a sweep that is stopped has the records of what it has trained.
        """
        hosts = [trial for trial in self.trials if self._may_host(trial)]
        for trial in hosts:
            if self.graph.last(trial).key in self.done:
                # Its slot may hold another trial, so DVC has to restore this one there.
                return Job(trial, (), (*self._with_code(trial, ()), trial.last_stage), True)
        busy = {node.key: node for job in self.running for node in job.nodes}
        same = {self.runs.key(node) for node in busy.values() if node.needs <= self.done} - {None}
        ready = [n for n in self.todo() if n.key not in busy and n.needs <= self.done]
        near = _NEAR * max((self._ways[node.key] for node in ready), default=0.0)
        for node in sorted(ready, key=lambda n: (self._ways[n.key] > near, -self._ways[n.key])):
            if self._was_made(node):
                self.done.add(node.key)
                return self._next()
            if self.runs.key(node) in same:  # soon another job will have made it
                continue
            if able := [trial for trial in hosts if trial in node.trials]:
                return self._job(able, node)
        return None

    def _was_made(self, node: Node) -> bool:
        """Ask DVC whether a node is a run that it has, once after each change."""
        if self._asked.get(node.key) == len(self.done):
            return False
        self._asked[node.key] = len(self.done)
        return self.runs.has(node)

    def _may_host(self, trial: Trial) -> bool:
        """Whether a trial can have one more job: not two that both begin with `code`."""
        jobs = [job for job in self.running if job.trial is trial]
        return not jobs or (trial.name in self.checked and not any(job.is_last for job in jobs))

    def _job(self, hosts: list[Trial], first: Node) -> Job:
        """Put what follows a node behind it, in the parameters of a trial that needs it all."""
        nodes = [first]
        while following := self._only_one_after(nodes):
            if not (able := [trial for trial in hosts if trial in following.trials]):
                break
            nodes, hosts = [*nodes, following], able
        stages = self._with_code(hosts[0], nodes)
        return Job(hosts[0], tuple(nodes), stages, nodes[-1] is self.graph.last(hosts[0]))

    def _only_one_after(self, nodes: Sequence[Node]) -> Node | None:
        """Return the node that becomes possible after these, unless several do or none.

        One that may be the same run as another, if what is before both is the same, waits for that.
        """
        chain, last = {node.key for node in nodes}, nodes[-1].key
        can_run = self.done | chain
        todo = self.todo()
        possible = [n for n in todo if last in n.needs and n.needs <= can_run]
        if len(possible) != 1 or any(n.own == possible[0].own for n in todo if n not in possible):
            return None
        return possible[0]

    def _with_code(self, trial: Trial, nodes: Iterable[Node]) -> tuple[str, ...]:
        stages = tuple(node.stage for node in nodes)
        return stages if trial.name in self.checked else (CODE_STAGE, *stages)

    def _take_over(self, job: Job, stages: Sequence[str]) -> None:
        """Let others go on with what a job has done."""
        if CODE_STAGE in stages:
            self.checked.add(job.trial.name)
        if new := {node.key for node in job.nodes if node.stage in stages} - self.done:
            self.done |= new
            self.started[job] = time.monotonic()

    def _note(self, job: Job, outcome: Outcome) -> None:
        """Take over what a job has done, and close the trials that it ended."""
        self._take_over(job, outcome.done)
        if not outcome.problem:
            if job.is_last:
                self._close(job.trial, outcome)
            return
        self.done |= {node.key for node in job.nodes if self.runs.has(node)}
        left = [node for node in job.nodes if node.key not in self.done]
        lost = {job.trial.name}
        if job.trial.name in self.checked and left:  # else only this trial's parameters are wrong
            lost |= {t.name for node in self.graph.after([left[0]]) for t in node.trials}
        for trial in [trial for trial in self.trials if trial.name in lost]:
            self.failed[trial.name] = outcome
            self._close(trial, outcome)

    def _close(self, trial: Trial, outcome: Outcome) -> None:
        self.trials.remove(trial)
        self.floor.ended(trial, outcome)

    def _longest_ways(self) -> Iterator[tuple[str, float]]:
        """Measure the longest way from each node to the end of a trial, in seconds or nodes."""
        behind: dict[str, float] = {}
        for key, node in reversed(self.graph.nodes.items()):
            length = behind.get(key, 0.0) + self.weights.get(key, 1.0)
            for need in node.needs:
                behind[need] = max(behind.get(need, 0.0), length)
            yield key, length
