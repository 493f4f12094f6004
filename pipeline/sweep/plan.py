"""What a sweep would do: which stages run, how long each took before, and what they will leave.

Nothing here is measured for the sweep itself; every time says what it was taken from.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.sweep.durations import Durations, bytes_by_stage, least_seconds
from pipeline.sweep.graph import Graph, Node
from pipeline.sweep.run_cache import KnownRuns, RunCache
from pipeline.sweep.trial import Trial


@dataclass(frozen=True)
class Plan:
    """What is to do.

    Args:
        finished: trials with a record; open: the others; outdated: those of them whose record is
            of other parameters or code.
        runs: which DVC will restore.
        to_run: the others that open trials need.
        seconds: how long each of these took before, by key; None where it is not known.
        same: keys of those that took it with the same parameters.
        num_bytes: what each stage left before.
    """

    title: str
    graph: Graph
    finished: list[Trial]
    open: list[Trial]
    runs: KnownRuns
    to_run: list[Node]
    seconds: Mapping[str, float | None]
    same: frozenset[str]
    num_bytes: Mapping[str, int]
    num_workers: int
    outdated: Sequence[Trial] = ()

    @property
    def known(self) -> dict[str, float]:
        """Seconds of each node to run; where unknown, nothing."""
        return {key: seconds or 0.0 for key, seconds in self.seconds.items()}

    def rows(self) -> list[dict[str, Any]]:
        """Tell of each stage of the open trials, in the order of dvc.yaml."""
        return list(filter(None, map(self._row, self.graph.declarations)))

    def _row(self, stage: str) -> dict[str, Any] | None:
        wanted = {
            n.key for t in self.open for n in self.graph.ways[t.name].values() if n.stage == stage
        }
        if not wanted:
            return None
        runs = [node for node in self.to_run if node.stage == stage]
        took = [s for node in runs if (s := self.seconds[node.key]) is not None]
        return {
            "stage": stage,
            "runs": len(runs),
            "cached": len(wanted) - len(runs),
            "took_before_s": round(sum(took) / len(took), 1) if took else None,
            "same_parameters": bool(took) and all(node.key in self.same for node in runs),
            "bytes_before": self.num_bytes.get(stage),
        }

    def document(self) -> dict[str, Any]:
        """Tell everything, for programs."""
        return {
            "sweep": self.title,
            "workers": self.num_workers,
            "done": [trial.name for trial in self.finished],
            "open": [trial.name for trial in self.open],
            "outdated": [trial.name for trial in self.outdated],
            "stages": self.rows(),
            "work_before_s": round(sum(self.known.values()), 1),
            "least_s": round(least_seconds(self.to_run, self.known, self.num_workers), 1),
            "never_ran": self._never_ran(),
            "bytes_before": self._bytes(),
            "bytes_free": free_bytes(self.graph.root),
        }

    def lines(self) -> Iterator[str]:
        """Tell everything, for people."""
        yield f"{self.title}: {len(self.open)} of {len(self.open) + len(self.finished)} to run"
        if self.outdated:
            names = ", ".join(trial.name for trial in self.outdated)
            yield f"again, since their records are of other parameters or code: {names}"
        rows = self.rows()
        if rows:
            yield f"{'stage':<22}{'runs':>6}{'cached':>8}   took before"
        for row in rows:
            yield f"{row['stage']:<22}{row['runs']:>6}{row['cached']:>8}   {_took(row)}"
        for trial in self.open:
            yield f"{trial.name}: {', '.join(self._runs(trial)) or 'only its record'}"
        yield from self._sums()

    def _runs(self, trial: Trial) -> list[str]:
        to_run = {node.key for node in self.to_run}
        way = self.graph.ways[trial.name]
        return [f"{n.stage}{'*' * (len(n.trials) > 1)}" for n in way.values() if n.key in to_run]

    def _sums(self) -> Iterator[str]:
        if any(len(node.trials) > 1 for node in self.to_run):
            yield "* once for several arms"
        if any(self.known.values()):
            least = least_seconds(self.to_run, self.known, self.num_workers)
            work = clock(sum(self.known.values()))
            yield (
                f"as before, {work} of work and at least {clock(least)} on {self.num_workers} "
                f"worker{'s' * (self.num_workers > 1)}"
            )
        if never := self._never_ran():
            yield f"not counted, because they have not run on this profile: {', '.join(never)}"
        gb = f"{self._bytes() / 1e9:.1f} GB"
        yield f"disk: {gb} as before; {free_bytes(self.graph.root) / 1e9:.1f} GB are free"

    def _never_ran(self) -> list[str]:
        return list(dict.fromkeys(n.stage for n in self.to_run if self.seconds[n.key] is None))

    def _bytes(self) -> int:
        return sum(self.num_bytes.get(node.stage, 0) for node in self.to_run)


def make_plan(
    title: str, graph: Graph, done: set[str], durations: Durations, cache: RunCache, workers: int
) -> Plan:
    """Plan the trials that are not `done` (names)."""
    runs = KnownRuns(graph, cache)
    trials = [trial for trial in graph.trials if trial.name not in done]
    wanted = {node.key for trial in trials for node in graph.ways[trial.name].values()}
    to_run = [n for key, n in graph.nodes.items() if key in wanted and key not in runs.entries]
    took = {node.key: durations.of(node) for node in to_run}
    return Plan(
        title,
        graph,
        [trial for trial in graph.trials if trial.name in done],
        trials,
        runs,
        to_run,
        {key: seconds for key, (seconds, _) in took.items()},
        frozenset(key for key, (_, is_same) in took.items() if is_same),
        bytes_by_stage(graph, runs.entries, cache),
        workers,
    )


def clock(seconds: float) -> str:
    """Write seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def free_bytes(root: Path) -> int:
    """Measure how much of the project's disk is free."""
    return shutil.disk_usage(root).free


def _took(row: Mapping[str, Any]) -> str:
    if row["took_before_s"] is None:
        return "" if not row["runs"] else "unknown"
    other = "" if row["same_parameters"] else ", with other parameters"
    return f"{clock(row['took_before_s'])} each{other}"
