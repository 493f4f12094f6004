"""A slot: a small clone of the project in which one worker runs the stages of any trial.

    .uvlm/sweep/slots/0/         code, conf/, params.yaml and reports/ of the trial that it runs
    .uvlm/sweep/slots/0.json     what it runs now, and how far it is: `Task`

A slot has DVC's cache, the store, the records and MLflow of the project, so no bulk data are
copied: DVC links outputs into it, and what it makes is in the cache of the project at once. Its
code is a copy of the working tree, so edits change nothing until the next sweep. Slots are made
afresh by every sweep; all that is taken over from one that was killed is a stage that had finished
and that DVC had not noted yet (`settle`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.dvc_yaml import digest, read_causes, read_declarations
from pipeline.paths import PARAMS
from pipeline.profiles import read_document, write_params
from pipeline.runs.records import find_record
from pipeline.sweep.trial import Trial
from uvlm.errors import SetupError
from uvlm.files import write_json_atomic

CODE = ("uvlm", "pipeline", "conf", "dvc.yaml")


@dataclass
class Task:
    """What a slot runs, as the file beside it says.

    Args:
        trial: whose parameters the slot has; all of it but the parameters themselves.
        stages: what to run, in order; `done` are those that DVC has noted.
        is_last: whether the trial ends with them, so that its record is written.
        key: of the trial's result; `way`: all stages of the trial.
    """

    trial: dict[str, Any]
    stages: list[str]
    is_last: bool
    key: str
    way: list[str]
    project: str
    done: list[str] = field(default_factory=list)
    fingerprints: dict[str, str] = field(default_factory=dict)  # by stage, once the trial is done
    group: int = 0  # the worker's process group

    def of(self, folder: Path) -> Trial:
        """Return the trial, with the parameters of its slot."""
        document = read_document(folder / PARAMS)
        return Trial(**self.trial | {"notes": tuple(self.trial["notes"]), "document": document})


@dataclass(frozen=True)
class Slot:
    """One clone; `project` is what it was cloned from."""

    project: Path
    folder: Path

    @property
    def file(self) -> Path:
        """Where its task is written."""
        return self.folder.with_suffix(".json")

    def make(self) -> None:
        """Clone the project at its commit, with the code of the working tree."""
        self.remove()
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        git(self.project, "clone", "--quiet", "--shared", str(self.project), str(self.folder))
        for name in CODE:
            _copy(self.project / name, self.folder / name)
        git(self.folder, "add", "--all", *CODE)
        share_cache(self.project, self.folder)

    def give(self, trial: Trial, task: Task) -> None:
        """Put in the parameters of a trial, and say what is to run."""
        write_params(self.folder, dict(trial.document))
        self.save(task)

    def save(self, task: Task) -> None:
        """Write the task down."""
        write_json_atomic(self.file, asdict(task))

    def task(self) -> Task | None:
        """Read the task; None where there is none."""
        try:
            return Task(**json.loads(self.file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def finished(self, task: Task) -> Iterator[str]:
        """Yield stages that ended well and whose outputs are whole, though DVC does not know."""
        declarations = read_declarations(self.folder)
        for name in task.stages:
            if name not in task.done and name in declarations:
                declaration = declarations[name]
                record = find_record(name, read_causes(self.folder, declaration).fingerprint)
                found = {out: digest(self.folder / out) for out in declaration.outs}
                if record and record.status == "FINISHED" and record.outputs == found:
                    yield name

    def remove(self) -> None:
        """Remove the clone; what it made is in the cache."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.file.unlink(missing_ok=True)


def slots_of(project: Path, folder: Path) -> list[Slot]:
    """Find the slots that an earlier sweep left."""
    return [Slot(project, path) for path in sorted(folder.glob("*")) if path.is_dir()]


def settle(slot: Slot) -> list[str]:
    """Let DVC note what had finished in a slot when its sweep was killed; return the stages."""
    task = slot.task()
    if task is None or not (slot.folder / PARAMS).is_file():
        return []
    for left in (".dvc/tmp/rwlock", ".git/index.lock"):  # nothing runs there any more
        (slot.folder / left).unlink(missing_ok=True)
    return commit(slot, list(slot.finished(task)))


def commit(slot: Slot, stages: Iterable[str]) -> list[str]:
    """Put the outputs of stages into DVC's cache and run cache."""
    done = []
    for stage in stages:
        command = [sys.executable, "-m", "dvc", "commit", "--quiet", "--force", stage]
        if subprocess.run(command, cwd=slot.folder, check=False).returncode == 0:
            done.append(stage)
    return done


def share_cache(project: Path, folder: Path) -> None:
    """Let a clone use the cache of its project, and its local settings."""
    from dvc.config import Config
    from dvc.repo import Repo

    local = project / ".dvc" / "config.local"
    if local.is_file():
        shutil.copy(local, folder / ".dvc" / local.name)
    with Repo(str(project)) as repo:
        cache = repo.cache.legacy.path
    with Config(str(folder / ".dvc"), validate=False).edit("local") as config:
        config.setdefault("cache", {})["dir"] = cache
        config.setdefault("core", {})["autostage"] = False


def git(root: Path, *arguments: str) -> str:
    """Run git without hooks; its output."""
    command = ["git", "-c", "core.hooksPath=/dev/null", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SetupError("git", "is not installed", "install it; experiments are commits") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SetupError(f"git {arguments[0]}", said, "run this in a clone with a commit")
    return done.stdout.strip()


def _copy(path: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    if path.is_dir():
        shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    elif path.is_file():
        shutil.copy(path, target)
