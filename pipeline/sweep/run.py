"""`uvlm sweep`: plan, run what has no record yet, and say what failed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Final

from pipeline.alone import alone
from pipeline.paths import state_root
from pipeline.sweep.board import Board
from pipeline.sweep.durations import Durations
from pipeline.sweep.engine import Outcome, Sweep
from pipeline.sweep.finish import RECORDS
from pipeline.sweep.graph import Graph
from pipeline.sweep.leftovers import clear
from pipeline.sweep.plan import Plan, make_plan
from pipeline.sweep.run_cache import RunCache
from pipeline.sweep.shares import Shares
from pipeline.sweep.slots import Slot, git
from pipeline.sweep.trial import Trial
from pipeline.sweep.workers import Workers
from uvlm.arm_record import ArmRecord, load_record, record_path
from uvlm.errors import ConfigError, DataError, Interrupted, SetupError, UvlmError

_ANOTHER: Final = (
    "another sweep of this project is running",
    "wait for it or stop it; one sweep can use more --workers",
)
_SAME: Final = "run the same command again"


def plan_sweep(
    root: Path, title: str, trials: Sequence[Trial], num_workers: int, copied: Path | None = None
) -> Plan:
    """Find out what is to do; nothing is run or written.

    Args:
        root: the project, with records and DVC's cache.
        title: of the sweep.
        trials: what is wanted.
        num_workers: how many stages will run at once.
        copied: where the code is, if not in the project.

    Raises:
        SetupError: the project is no clone with a commit.
    """
    _check_commit(root)
    graph = Graph(copied or root, trials)
    records = records_of(root, trials)
    done = {
        trial.name
        for trial in trials
        if (record := records.get(trial.name)) and record.key == graph.last(trial).key
    }
    durations = Durations.read(graph, records.values())
    plan = make_plan(title, graph, done, durations, RunCache.of(root), num_workers)
    return replace(plan, outdated=[t for t in plan.open if t.name in records])


def run_sweep(root: Path, title: str, trials: Sequence[Trial], num_workers: int) -> None:
    """Run every trial that has no record of today's parameters and code.

    Raises:
        Interrupted: by a signal; everything finished is kept.
        UvlmError: a trial failed; the others were run.
    """
    root = root.resolve()
    folder = state_root().resolve() / "sweep" / "slots"
    with alone(folder.parent, *_ANOTHER):
        for stage in clear(root, folder):
            sys.stderr.write(f"{stage}: had finished when the last sweep was stopped\n")
        _check_commit(root)
        slots = [Slot(root, folder / str(number)) for number in range(num_workers)]
        slots[0].make(root)  # from here on, edits in the project change nothing
        plan = plan_sweep(root, title, trials, num_workers, slots[0].folder)
        failed: Mapping[str, Outcome] = {}
        if plan.open:
            sys.stderr.write("".join(f"{line}\n" for line in plan.lines()))
            failed = _run(root, plan, slots)
        for slot in slots:
            slot.remove()
    if failed:
        raise failure(title, failed, len(trials))


def records_of(root: Path, trials: Sequence[Trial]) -> dict[str, ArmRecord]:
    """Read the records of those trials that have one, by the trial's name."""
    paths = {t.name: record_path(root / RECORDS, t.profile, t.arm, t.seed) for t in trials}
    return {name: load_record(path) for name, path in paths.items() if path.is_file()}


def _run(root: Path, plan: Plan, slots: list[Slot]) -> Mapping[str, Outcome]:
    """Work until nothing is left that can run; return what failed, by trial."""
    for slot in slots[1:]:
        slot.make(slots[0].folder)
    num_all = len(plan.open) + len(plan.finished)
    shares = Shares.of_this_computer(plan.num_workers)
    told = records_of(root, [*plan.open, *plan.finished])
    board = Board(num_all, len(plan.finished), list(told.values()))
    workers = Workers(root, plan.graph, slots, board, shares)
    done = set(plan.runs.entries)
    sweep = Sweep(
        plan.graph, list(plan.open), done, plan.num_workers, workers, plan.runs, plan.known
    )
    with _stopped_by_signals() as check:
        try:
            sweep.run(check)
        except BaseException:
            workers.stop()
            with suppress(OSError):  # of a full disk, the error itself tells
                for trial in [t for t in sweep.trials if t.name in sweep.begun]:
                    workers.ended(trial, Outcome((), "was stopped", Interrupted.exit_code))
            raise
    return sweep.failed


def _check_commit(root: Path) -> None:
    """Refuse a project without the commit that experiments hang on, such as an unpacked archive."""
    git(root, "rev-parse", "--verify", "HEAD")


def failure(title: str, failed: Mapping[str, Outcome], num_all: int) -> UvlmError:
    """Make the error that tells of failed trials, with the exit code of the first one's stage."""
    fact = f"{len(failed)} of {num_all} arms did not end ({', '.join(failed)})"
    code = next(iter(failed.values())).code
    kinds = (ConfigError, DataError, SetupError, Interrupted)
    kind = next((kind for kind in kinds if kind.exit_code == code), UvlmError)
    return kind(title, fact, f"see the lines above; then {_SAME}")


@contextmanager
def _stopped_by_signals() -> Iterator[Callable[[], None]]:
    """Let Ctrl-C and SIGTERM end a sweep at once, or else when what is yielded is called next.

    Python drops what a handler raises while an object is being deleted.
    """
    heard: list[str] = []

    def check() -> None:
        if heard:
            raise Interrupted(heard[0], "stopped by a signal", "run the same command to continue")

    def stop(number: int, frame: FrameType | None) -> None:
        heard.append(signal.Signals(number).name)
        check()

    # `nohup` ignores SIGHUP, and a shell SIGINT of what it starts behind itself; that stays so.
    known = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {n: signal.getsignal(n) for n in known if signal.getsignal(n) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
