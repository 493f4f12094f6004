"""How far a sweep is, in lines: one when a trial ends, and one now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

from pipeline.sweep.durations import Durations, least_seconds
from pipeline.sweep.engine import Job, Outcome, Sweep
from pipeline.sweep.graph import Node
from pipeline.sweep.plan import clock
from pipeline.sweep.trial import Trial
from uvlm.arm_record import ArmRecord

_EVERY_S: Final = 30.0


class Board:
    """Writes to stderr.

    Args:
        num_trials: of the sweep, those with a record included.
        num_done: of these, those that had one before.
        records: what was run before, perhaps elsewhere; they say how long its stages took.
    """

    def __init__(self, num_trials: int, num_done: int, records: Sequence[ArmRecord]) -> None:
        self.num_trials = num_trials
        self.num_done = num_done
        self.records = records
        self._last_line = time.monotonic()

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        """Say how a trial ended."""
        self.num_done += not outcome.problem
        if outcome.problem:
            where = f"; all of it is in {outcome.log}" if outcome.log else ""
            line = f"{trial.name}: {outcome.problem}{where}"
        else:
            line = f"{trial.name}: done ({self.num_done} of {self.num_trials})"
        sys.stderr.write(f"{line}\n")

    def look(self, sweep: Sweep) -> None:
        """Say from time to time what runs and how long the rest will take."""
        now = time.monotonic()
        if now - self._last_line < _EVERY_S:
            return
        self._last_line = now
        running = ", ".join(self._job(sweep, job, now) for job in sweep.running)
        parts = [
            f"{self.num_done} of {self.num_trials} arms",
            f"{len(sweep.todo())} stages to go",
            f"running {running}",
            self._left(sweep, now),
        ]
        sys.stderr.write("; ".join(parts) + "\n")

    def _left(self, sweep: Sweep, now: float) -> str:
        """Estimate the rest from earlier runs of the same stages."""
        nodes = sweep.todo()
        durations = Durations.read(sweep.graph, self.records)  # and the runs of this sweep
        took = {node.key: durations.of(node)[0] for node in nodes}
        seconds = {key: value or 0.0 for key, value in took.items()}
        for job in sweep.running:
            self._take_off(job.nodes, now - sweep.started[job], seconds)
        left = clock(least_seconds(nodes, seconds, sweep.num_workers))
        if unknown := list(dict.fromkeys(n.stage for n in nodes if took[n.key] is None)):
            some = ", ".join(unknown[:3]) + ", ..." * (len(unknown) > 3)
            return f"{left} left and what has not run on this profile yet ({some})"
        return f"about {left} left, as before"

    def _take_off(
        self, nodes: tuple[Node, ...], spent: float, seconds: dict[str, float]
    ) -> Mapping[str, float]:
        """Take the time that a job has run off its stages, the first ones first."""
        for node in nodes:
            if node.key in seconds:
                used = min(spent, seconds[node.key])
                seconds[node.key] -= used
                spent -= used
        return seconds

    @staticmethod
    def _job(sweep: Sweep, job: Job, now: float) -> str:
        left = [node.stage for node in job.nodes if node.key not in sweep.done]
        stages = " to ".join(dict.fromkeys([left[0], left[-1]])) if left else "its record"
        return f"{job.trial.name} {stages} ({clock(now - sweep.started[job])})"
