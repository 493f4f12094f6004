"""What happened in each stage, on disk before anywhere else.

    <project>/.uvlm/runs/<stage>-<fingerprint>/
        record.json      RunRecord: status, process, params, tags, artifacts, what MLflow has
        history.jsonl    numbers by step, as uvlm.tracking writes them

A stage keeps its own record. MLflow is brought up to date later from these files, so an outage
loses nothing; a record that still says RUNNING although its process is dead means a kill -9.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from pipeline.paths import state_root
from pipeline.runs.lineage import Lineage
from uvlm.files import write_text_atomic

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
_START_TOLERANCE_S = 2.0


class Published(BaseModel):
    """How much of a record MLflow has, and in which run."""

    run_id: str | None = None
    parent_id: str | None = None
    status: Status | None = None
    lines: int = 0

    @property
    def ids(self) -> set[str]:
        """The runs in MLflow that this is about."""
        return {found for found in (self.run_id, self.parent_id) if found is not None}


class RunRecord(BaseModel):
    """One stage of one pipeline run."""

    stage: str
    fingerprint: str
    pipeline: str
    profile: str
    status: Status = "RUNNING"
    host: str = Field(default_factory=socket.gethostname)
    pid: int = Field(default_factory=os.getpid)
    pid_started: float = 0.0
    started: float = Field(default_factory=time.time)
    begun: float = 0.0  # when its first attempt started
    ended: float | None = None
    resumed: int = 0
    params: dict[str, str] = {}
    parent_params: dict[str, str] = {}
    tags: dict[str, str] = {}
    artifacts: list[str] = []
    outputs: dict[str, str] = {}  # sha256 of each output, once the stage has finished
    lineage: Lineage | None = None  # once the stage has finished
    published: Published = Published()

    @property
    def folder(self) -> Path:
        """Where this record lives."""
        return state_root() / "runs" / f"{self.stage}-{self.fingerprint[:12]}"

    @property
    def history(self) -> Path:
        """The numbers by step."""
        return self.folder / "history.jsonl"

    @property
    def is_pending(self) -> bool:
        """Whether the run has ended and MLflow does not know how."""
        return self.status not in ("RUNNING", self.published.status)

    def save(self) -> None:
        """Write record.json in one move."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text_atomic(self.folder / "record.json", self.model_dump_json(indent=1) + "\n")

    def end(self, status: Status) -> None:
        """Note how the run ended."""
        self.status = status
        self.ended = time.time()
        self.save()


def read_records() -> list[RunRecord]:
    """Read every record, oldest first."""
    records = []
    for path in state_root().glob("runs/*/record.json"):
        with suppress(FileNotFoundError):  # another stage starts anew just now
            records.append(_read(path))
    return sorted(records, key=lambda record: record.started)


def find_record(stage: str, fingerprint: str) -> RunRecord | None:
    """Find the latest run of a stage with these parameters and inputs."""
    path = state_root() / "runs" / f"{stage}-{fingerprint[:12]}" / "record.json"
    return _read(path) if path.exists() else None


def _read(path: Path) -> RunRecord:
    return RunRecord.model_validate_json(path.read_text(encoding="utf-8"))


def open_record(record: RunRecord) -> RunRecord:
    """Start a run: continue an unfinished one of the same fingerprint, else start anew."""
    record.pid_started, record.begun = process_start(record.pid), record.started
    earlier = find_record(record.stage, record.fingerprint)
    if earlier is not None and earlier.status != "FINISHED":
        record.resumed = earlier.resumed + 1
        record.tags["uvlm.resumed"] = str(record.resumed)
        if earlier.pipeline == record.pipeline:
            record.published, record.begun = earlier.published, earlier.begun or earlier.started
            record.published.status = None  # it runs again, and will end again
    elif earlier is not None:
        shutil.rmtree(earlier.folder)
    record.save()
    return record


def reap_dead(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Mark RUNNING records of this machine whose process is gone as KILLED, and return them."""
    dead = [r for r in records if r.status == "RUNNING" and is_dead(r)]
    for record in dead:
        record.end("KILLED")
    return dead


def is_dead(record: RunRecord) -> bool:
    """Whether the process is gone; one of another machine cannot be judged."""
    if record.host != socket.gethostname():
        return False
    # A process id may have been reused; its start time has not.
    return abs(process_start(record.pid) - record.pid_started) > _START_TOLERANCE_S


def process_start(pid: int) -> float:
    """Return when a process began, in seconds since the epoch; 0 if there is none."""
    import psutil

    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return 0.0
