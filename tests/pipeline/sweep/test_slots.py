"""What a slot has of its project, on a small repository with real git and DVC."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.profiles import read_document
from pipeline.sweep.leftovers import clear, end_left
from pipeline.sweep.slots import Slot, Task, git
from pipeline.sweep.trial import Trial
from uvlm.errors import SetupError
from uvlm.files import store_root
from uvlm.store import workspaces

DVC_YAML = """
stages:
  code: {cmd: "true", deps: [pipeline]}
  left: {cmd: "true", outs: [data/left], metrics: [reports/left.json: {cache: false}]}
  right: {cmd: "true", outs: [data/right], metrics: [reports/right.json: {cache: false}]}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository whose last commit has the numbers of some run."""
    folder = tmp_path / "a project"
    for name, text in {
        "dvc.yaml": DVC_YAML,
        "dvc.lock": "schema: '2.0'\nstages:\n  left: {cmd: 'true'}\n  right: {cmd: 'true'}\n",
        "params.yaml": "seed: 0\n",
        "pipeline/a.py": "A = 1\n",
        "conf/profile/p.yaml": "seed: 0\n",
        "reports/left.json": "1\n",
        "reports/right.json": "1\n",
        ".gitignore": "/data\n/conf/profile/mine.yaml\n",
        ".dvc/config": "[core]\n    autostage = true\n",
        ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
        "uvlm/b.py": "B = 1\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for command in (["init"], ["add", "--all"], [*IDENTITY, "commit", "--message", "tree"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    return folder


IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.org")


def slot_of(project: Path) -> Slot:
    return Slot(project, project / ".uvlm" / "sweep" / "slots" / "0")


def task_of(project: Path, trial: Trial, *way: str) -> Task:
    described = {k: v for k, v in vars(trial).items() if k != "document"}
    return Task(described | {"notes": []}, list(way), False, "key", list(way), str(project))


@pytest.mark.slow
def test_a_slot_has_the_working_tree_and_keeps_it(project: Path) -> None:
    (project / "pipeline" / "a.py").write_text("A = 2\n")  # not committed
    (project / "pipeline" / "new.py").write_text("NEW = 1\n")  # not even known
    (project / "pipeline" / ".#a.py").symlink_to("somebody@editor")  # what an editor leaves
    (project / "conf" / "profile" / "mine.yaml").write_text("seed: 1\n")  # ignored
    (project / "uvlm" / "b.py").unlink()
    (project / "uvlm" / "c.py").write_text("C = 1\n")
    (project / ".dvc" / "config.local").write_text("['remote \"mine\"']\n    url = /srv/mine\n")
    first, second = (Slot(project, slot_of(project).folder.with_name(n)) for n in "01")
    first.make(project)
    (project / "pipeline" / "a.py").write_text("A = 3\n")
    second.make(first.folder)
    for slot in (first, second):
        assert (slot.folder / "pipeline" / "a.py").read_text() == "A = 2\n"
        assert (slot.folder / "pipeline" / "new.py").is_file()
        assert (slot.folder / "conf" / "profile" / "mine.yaml").is_file()
        assert not (slot.folder / "uvlm" / "b.py").exists()
        assert "/srv/mine" in (slot.folder / ".dvc" / "config.local").read_text()
        shown = ["dvc", "cache", "dir"]
        done = subprocess.run(
            [sys.executable, "-m", *shown], cwd=slot.folder, capture_output=True, text=True
        )
        assert Path(done.stdout.strip()) == project / ".dvc" / "cache"


def test_a_slot_holds_nothing_of_what_its_trial_does_not_run(project: Path) -> None:
    slot, trial = slot_of(project), Trial("t", "", "a", "p", 3, {"seed": 3}, "left")
    slot.make(project)
    (slot.folder / "data" / "right").mkdir(parents=True)
    (slot.folder / "data" / "left").mkdir()
    slot.give(trial, task_of(project, trial, "code", "left"))
    assert not (slot.folder / "data" / "right").exists()
    assert not (slot.folder / "reports" / "right.json").exists()
    assert (slot.folder / "data" / "left").is_dir()  # DVC itself replaces these
    assert read_document(slot.folder / "dvc.lock")["stages"].keys() == {"left"}
    assert read_document(slot.folder / "params.yaml") == {"seed": 3}
    given = slot.task()
    assert given is not None
    assert given.of(slot.folder).name == "a-p-seed3"


def test_git_can_commit_in_a_slot_where_it_knows_nobody(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(project / "nowhere"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    slot = slot_of(project)
    slot.make(project)
    git(slot.folder, "commit", "--allow-empty", "--message", "experiment")
    assert git(slot.folder, "log", "-1", "--format=%an") == "uvlm sweep"


def test_without_a_commit_or_a_repository_one_line_tells(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="run this in a clone with a commit"):
        git(tmp_path, "rev-parse", "--verify", "HEAD")
    git(tmp_path, "init", "--quiet")
    with pytest.raises(SetupError, match="run this in a clone with a commit"):
        git(tmp_path, "rev-parse", "--verify", "HEAD")


def test_a_removed_slot_is_no_workspace_of_the_store(project: Path) -> None:
    slot = slot_of(project)
    slot.make(project)
    workspaces.register(store_root(), slot.folder)
    workspaces.register(store_root(), project)
    slot.remove()
    assert workspaces.registered(store_root()) == [project]


@pytest.mark.slow
@pytest.mark.parametrize("asks", [True, False])
def test_what_a_dead_worker_left_is_asked_to_stop_and_then_gone(
    project: Path, asks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.sweep.leftovers.GRACE_S", 60.0 if asks else 0.5)
    slot, trial = slot_of(project), Trial("t", "", "a", "p", 0, {"seed": 0}, "left")
    slot.make(project)
    task = task_of(project, trial, "code", "left")
    # A worker that is gone, and its stage, which saves its state before it ends or is stuck.
    handler = "open('saved', 'w').close(), exit()" if asks else "None"
    stage = (
        "import os, signal, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: ({handler}))\n"
        "open('ready', 'w').close()\ntime.sleep(600)"
    )
    begun = f"import subprocess\nsubprocess.Popen({[sys.executable, '-c', stage]})"
    worker = subprocess.Popen(
        [sys.executable, "-c", begun],
        cwd=slot.folder,
        start_new_session=True,
    )  # fmt: skip
    task.group = worker.pid
    slot.give(trial, task)
    worker.wait()
    while not (slot.folder / "ready").exists():
        time.sleep(0.02)
    stranger = subprocess.Popen(["sleep", "60"], cwd=project)
    end_left(slot)
    assert (slot.folder / "saved").exists() == asks
    assert not any(_is_in(process, slot.folder) for process in psutil.process_iter())
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_slot_that_was_half_made_is_removed(project: Path) -> None:
    slot = slot_of(project)
    (slot.folder / ".git").mkdir(parents=True)
    slot.file.write_text(json.dumps({"trial": {}}))  # of another version
    assert clear(project, slot.folder.parent) == []
    assert not slot.folder.exists()


def _is_in(process: psutil.Process, folder: Path) -> bool:
    try:
        alive = process.status() != psutil.STATUS_ZOMBIE
        return alive and Path(process.cwd()) == folder and process.pid != os.getpid()
    except (psutil.Error, OSError):
        return False
