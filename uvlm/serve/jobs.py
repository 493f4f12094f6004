"""The CTs that were uploaded: one is worked on, one waits, and no draft is kept longer than asked.

    receiving -> waiting -> running -> drafted | withheld | refused | failed -> removed

A CT is removed when its draft is there; the draft goes when its time is over, when somebody asks,
or when the program ends. Job ids are random and tell nothing.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition, Thread, Timer
from typing import Final, Literal

from uvlm import environment

State = Literal["receiving", "waiting", "running", "drafted", "withheld", "refused", "failed"]
UNLIKE: Final = "--unlike-training"
_END: Final[dict[str, State]] = {
    "drafted": "drafted", "withheld": "withheld", "refused": "refused"
}  # fmt: skip
UNDER_WAY: Final = ("receiving", "waiting", "running")
MOST_UNDER_WAY: Final = 2  # one that is worked on, and one that waits
MOST_KEPT: Final = 20
_MOST_SECONDS: Final = 3600  # for one CT
_LOOK_S: Final = 0.2
_WORK: Final = (sys.executable, "-P", "-m", "uvlm.serve.work")


@dataclass
class Job:
    """One upload: where it is, how far it is, and what became of it."""

    number: int
    folder: Path
    key: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: State = "receiving"
    ct: Path | None = None
    unlike_training: bool = False
    steps: list[str] = field(default_factory=list)
    line: str = ""
    ended: float | None = None
    process: subprocess.Popen[str] | None = None

    @property
    def out(self) -> Path:
        """The folder of its draft."""
        return self.folder / "draft"


class Jobs:
    """All uploads below `root`.

    Args:
        root: a private folder.
        model: of the drafts.
        keep_s: how long a draft is kept after it was made.
        tell: gets a line for each CT, which names nobody.
        clock: counts seconds.
        claim_more: of the reports.
    """

    def __init__(
        self,
        root: Path,
        model: Path,
        keep_s: float,
        tell: Callable[[str], object] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
        claim_more: float = 0.0,
    ) -> None:
        self._root, self._model, self._keep_s = root, model.absolute(), keep_s
        self._tell, self._clock, self._claim_more = tell, clock, claim_more
        self._jobs: dict[str, Job] = {}
        self._changed = Condition()
        self._count = 0
        self._stops = False

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work on what comes until the block ends."""
        thread = Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._stops = True
                running = [job.process for job in self._jobs.values() if job.process is not None]
                self._changed.notify_all()
            for process in running:
                process.kill()
            thread.join()

    def reserve(self) -> Job | None:
        """Make room for one more upload; None while others are in its way."""
        with self._changed:
            self._sweep()
            states = [job.state for job in self._jobs.values()]
            under_way = sum(state in UNDER_WAY for state in states)
            if under_way >= MOST_UNDER_WAY or len(states) >= MOST_KEPT + MOST_UNDER_WAY:
                return None
            self._count += 1
            job = Job(self._count, self._root / str(self._count))
            job.folder.mkdir(mode=0o700)
            self._jobs[job.key] = job
            return job

    def submit(self, job: Job, ct: Path, *, unlike_training: bool) -> None:
        """Queue an upload that has come."""
        with self._changed:
            job.ct, job.unlike_training, job.state = ct, unlike_training, "waiting"
            self._changed.notify_all()

    def find(self, key: str) -> Job | None:
        """Find an upload that is still there."""
        with self._changed:
            self._sweep()
            return self._jobs.get(key)

    def all(self) -> list[Job]:
        """List the uploads that are there, the newest first."""
        with self._changed:
            self._sweep()
            return sorted(self._jobs.values(), key=lambda job: -job.number)

    def remove(self, key: str) -> bool:
        """Remove an upload and its draft, even while it is worked on; whether it was there."""
        with self._changed:
            job = self._jobs.pop(key, None)
            if job is None:
                return False
            if job.process is not None:
                job.process.kill()
            else:
                shutil.rmtree(job.folder, ignore_errors=True)
            return True

    def minutes_left(self, job: Job) -> int | None:
        """Say for how long a draft is kept; None before it is made."""
        if job.ended is None:
            return None
        return max(0, round((job.ended + self._keep_s - self._clock()) / 60))

    def _sweep(self) -> None:
        """Remove what is over; the caller holds the lock."""
        now = self._clock()
        for key, job in list(self._jobs.items()):
            if job.ended is not None and now - job.ended >= self._keep_s:
                del self._jobs[key]
                shutil.rmtree(job.folder, ignore_errors=True)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._sweep()
                if self._stops:
                    return
                waiting = [job for job in self._jobs.values() if job.state == "waiting"]
                job = min(waiting, key=lambda each: each.number, default=None)
                if job is None:
                    self._changed.wait(_LOOK_S)
                    continue
                job.state = "running"
            self._work(job)

    def _work(self, job: Job) -> None:
        start = time.monotonic()
        status, line = "failed", "The CT could not be read: the program that reads it has stopped."
        try:
            told = self._ask(job)
            if told:
                status, line = told["status"], told["line"]
        except Exception as error:
            line = f"A bug ({type(error).__name__}); please report it."
        with self._changed:
            job.process = None
            if job.ct is not None:
                job.ct.unlink(missing_ok=True)
            shutil.rmtree(job.folder / "tmp", ignore_errors=True)
            job.state = _END.get(status, "failed")
            job.line, job.ended = line, self._clock()
            is_there = job.key in self._jobs
            if not is_there:
                shutil.rmtree(job.folder, ignore_errors=True)
        what = job.state if is_there else "removed"
        self._tell(f"CT {job.number}: {what}, {time.monotonic() - start:.1f} s")

    def _ask(self, job: Job) -> dict[str, str] | None:
        """Run the process of one CT; return what it said last."""
        temporary = job.folder / "tmp"
        temporary.mkdir(mode=0o700)
        extra = [str(self._claim_more), *([UNLIKE] if job.unlike_training else [])]
        with self._changed:
            if job.key not in self._jobs or self._stops:
                return None
            job.process = subprocess.Popen(
                [*_WORK, str(job.ct), str(self._model), str(job.out), *extra],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # a traceback may hold anything
                stdin=subprocess.DEVNULL,
                env=environment.inherited() | {"TMPDIR": str(temporary)},
                text=True,
            )
        guard = _Guard(job.process)
        last = None
        with guard, job.process as process:
            assert process.stdout is not None
            for text in process.stdout:
                told: dict[str, str] = json.loads(text)
                if "step" in told:
                    job.steps.append(told["step"])
                else:
                    last = told
        return last


class _Guard:
    """Kills a process that takes too long."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._timer = Timer(_MOST_SECONDS, process.kill)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()
