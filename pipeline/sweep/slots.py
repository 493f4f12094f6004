"""A slot: a small clone of the project in which one worker runs the stages of any trial.

    .uvlm/sweep/slots/0/         code, conf/, params.yaml and reports/ of the trial that it runs
    .uvlm/sweep/slots/0.json     what it runs now, and how far it is: `Task`

A slot has DVC's cache, the store, the records and MLflow of the project, so no bulk data are
copied: DVC links outputs into it, and what it makes is in the cache of the project at once. The
first slot has a copy of the working tree's code and the others have that of the first, so edits
change nothing until the next sweep. Slots are made afresh by every sweep; all that is taken over
from one that was killed is a stage that had finished and that DVC had not noted yet
(`leftovers.settle`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pipeline.dvc_yaml import read_declarations
from pipeline.paths import PARAMS
from pipeline.profiles import read_document, write_params, yaml_text
from pipeline.sweep.trial import Trial
from uvlm.errors import SetupError
from uvlm.files import store_root, write_json_atomic, write_text_atomic
from uvlm.store import workspaces

CODE: Final = ("uvlm", "pipeline", "conf", "dvc.yaml", ".dvcignore", ".dvc/config")
_LOCK: Final = "dvc.lock"
_AUTHOR: Final = {"user.name": "uvlm sweep", "user.email": "uvlm-sweep@localhost"}


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

    def make(self, copied: Path) -> None:
        """Clone the project at its commit, with the code that lies in the folder `copied`."""
        self.remove()
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        unsigned = ("--config", "commit.gpgsign=false")  # nobody is there to unlock a key
        places = (str(self.project), str(self.folder))
        git(self.project, "clone", "--quiet", "--shared", *unsigned, *places)
        for name in CODE:
            _copy(copied / name, self.folder / name)
        git(self.folder, "add", "--all", *(name for name in CODE if (self.folder / name).exists()))
        share_cache(self.project, self.folder)
        self._name_an_author()

    def give(self, trial: Trial, task: Task) -> None:
        """Put in the parameters of a trial, and say what is to run."""
        self._remove_others(task.way)
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

    def remove(self) -> None:
        """Remove the clone; what it made is in the cache."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        workspaces.forget(store_root(), self.folder)
        self.file.unlink(missing_ok=True)

    def _name_an_author(self) -> None:
        """Let git commit experiments where nobody has told it who commits."""
        try:
            git(self.folder, "var", "GIT_AUTHOR_IDENT")
            git(self.folder, "config", "user.email")
        except SetupError:
            for key, value in _AUTHOR.items():
                git(self.folder, "config", key, value)

    def _remove_others(self, way: list[str]) -> None:
        """Remove what stages made that this trial does not have: numbers of another model."""
        declarations = read_declarations(self.folder)
        others = declarations.keys() - set(way)
        for name in others:
            for out in declarations[name].outs:
                _remove(self.folder / out)
        lock = self.folder / _LOCK
        if lock.is_file():
            document = read_document(lock)
            kept = {name: entry for name, entry in document["stages"].items() if name in way}
            if kept.keys() != document["stages"].keys():
                write_text_atomic(lock, yaml_text(document | {"stages": kept}))


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
    """Run git without hooks and without tidying up; its output."""
    options = ("-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0")
    command = ["git", *options, "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SetupError("git", "is not installed", "install it; experiments are commits") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SetupError(f"git {arguments[0]}", said, "run this in a clone with a commit")
    return done.stdout.strip()


def _copy(path: Path, target: Path) -> None:
    if path.is_dir():
        _remove(target)
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(path, target, ignore=ignored, ignore_dangling_symlinks=True)
    elif path.is_file():
        shutil.copy(path, target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
