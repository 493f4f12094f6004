"""`uvlm store gc` keeps what any workspace, branch or experiment names, and asks before it removes.

The workspaces are real: git and DVC keep their manifests, as they do after a run.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli import app
from pipeline.named import named_by, workspace_of
from pipeline.profiles import read_document, yaml_text
from uvlm import store
from uvlm.errors import ConfigError, DataError, SetupError
from uvlm.files import key_of, store_root, write_json_atomic
from uvlm.store import Row, workspaces

MADE = "data/manifests/made.jsonl"
STAGE = """stages:
  made:
    cmd: cp wanted.jsonl data/manifests/made.jsonl
    deps: [wanted.jsonl]
    outs: [data/manifests/made.jsonl]
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "store"))
    return tmp_path / "store"


def keep(root: Path, name: str) -> Row:
    """Store an array; return the row that names it."""
    path = f"preprocess/{name}.b2nd"
    sha256 = store.save_array(root / path, np.arange(10))
    return Row(name, "k", path, sha256, "test")


def workspace(folder: Path, rows: Sequence[Row]) -> Path:
    store.write_manifest(folder / "data/manifests/preprocess.jsonl", rows)
    return folder


def gc(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.chdir(folder)
    app(["store", "gc", *options], standalone_mode=False)


def arrays(root: Path) -> set[str]:
    return {path.stem for path in root.rglob("*.b2nd")}


def test_what_another_workspace_names_is_kept(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = workspace(tmp_path / "first", [keep(root, "a"), keep(root, "both")])
    second = workspace(tmp_path / "second", [keep(root, "b"), keep(root, "both")])
    keep(root, "loose")
    workspaces.register(root, first)
    gc(second, monkeypatch, "--delete", "--yes")
    assert arrays(root) == {"a", "b", "both"}


def test_a_workspace_that_cannot_be_read_stops_everything(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first").mkdir()
    workspaces.register(root, tmp_path / "first")
    (tmp_path / "first").rmdir()
    second = workspace(tmp_path / "second", [keep(root, "b")])
    keep(root, "loose")
    with pytest.raises(DataError, match=r"first: uses .* is not there .* remove .*json"):
        gc(second, monkeypatch, "--delete", "--yes")
    assert arrays(root) == {"b", "loose"}


def test_a_workspace_that_names_nothing_of_a_store_removes_nothing_from_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(root, "of somebody who has not registered")
    with pytest.raises(DataError, match="holds nothing that the 1 workspaces known to it name"):
        gc(workspace(tmp_path / "new", []), monkeypatch, "--delete", "--yes")
    assert len(arrays(root)) == 1


def test_gigabytes_are_shown_and_a_script_has_to_say_yes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = workspace(tmp_path / "here", [keep(root, "a")])
    keep(root, "loose")
    with pytest.raises(ConfigError, match="--yes"):
        gc(here, monkeypatch, "--delete")
    assert "GB" in capsys.readouterr().out
    assert arrays(root) == {"a", "loose"}


def test_nothing_is_removed_while_a_stage_runs(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = workspace(tmp_path / "here", [keep(root, "a")])
    keep(root, "made a moment ago")
    run = "import sys; from pathlib import Path; from uvlm.store import workspaces\n"
    run += "with workspaces.used(Path(sys.argv[1])): print('runs', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", run, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"runs\n"
        with pytest.raises(SetupError, match="in use by a stage"):
            gc(here, monkeypatch, "--delete", "--yes")
        process.kill()
    assert arrays(root) == {"a", "made a moment ago"}
    gc(here, monkeypatch, "--delete", "--yes")
    assert arrays(root) == {"a"}


class Project:
    """A repository of git and DVC whose one stage copies a manifest."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, root
        folder.mkdir()
        self.call("git", "init", "-q", "-b", "main")
        self.call("git", "config", "user.email", "a@b.c")
        self.call("git", "config", "user.name", "A")
        self.dvc("init", "-q")
        self.dvc("config", "core.analytics", "false")
        (folder / "dvc.yaml").write_text(STAGE)
        (folder / "data/manifests").mkdir(parents=True)

    def call(self, *command: str) -> None:
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def dvc(self, *command: str) -> None:
        self.call(sys.executable, "-m", "dvc", *command)

    def made(self, name: str, *how: str) -> None:
        """Store an array and let DVC make the manifest that names it."""
        store.write_manifest(self.folder / "wanted.jsonl", [keep(self.root, name)])
        self.dvc(*how)

    def back(self) -> None:
        """Return to what is committed."""
        self.call("git", "checkout", "-q", ".")
        self.dvc("checkout", "-q")


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Project:
    """On its branch main the array `main`, in an experiment `tried`, in a branch `branch`."""
    made = Project(tmp_path / "project", root)
    made.made("main", "repro")
    made.call("git", "add", ".")
    made.call("git", "commit", "-qm", "main")
    made.call("git", "switch", "-qc", "other")
    made.made("branch", "repro")
    made.call("git", "commit", "-qam", "branch")
    made.call("git", "switch", "-q", "main")
    made.dvc("checkout", "-q")
    made.made("tried", "exp", "run", "-n", "tried")
    made.back()
    keep(root, "loose")
    return made


@pytest.mark.slow
def test_the_manifests_of_branches_and_experiments_count(root: Path, project: Project) -> None:
    named = named_by([project.folder])
    loose = [file.path for file in store.loose_files(root, named.paths)]
    assert loose == ["preprocess/loose.b2nd"]
    assert (named.manifests, named.unknown) == (4, 0)  # main twice: as a file and in the cache


@pytest.mark.slow
def test_both_collectors_together_keep_what_an_experiment_names(
    root: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = ("--workspace", "--all-branches", "--all-experiments", "--force")
    project.dvc("gc", *everything)
    gc(project.folder, monkeypatch, "--delete", "--yes")
    assert arrays(root) == {"main", "branch", "tried"}
    project.dvc("exp", "apply", "tried")
    manifest = project.folder / MADE
    assert [row.case for row in store.read_manifest(manifest)] == ["tried"]
    project.back()

    # DVC's own default throws away the manifests of experiments; their arrays stay all the same.
    project.dvc("gc", "--workspace", "--force")
    keep(root, "loose")
    with pytest.raises(DataError, match=r"2 of their manifests are not in DVC's cache.*--forget"):
        gc(project.folder, monkeypatch, "--delete", "--yes")
    assert arrays(root) == {"main", "branch", "tried", "loose"}

    # Once the experiment is removed, nothing names its array any more; the branch still does.
    project.dvc("exp", "remove", "tried")
    with pytest.raises(DataError, match=r"1 of their manifests"):
        gc(project.folder, monkeypatch, "--delete", "--yes")
    gc(project.folder, monkeypatch, "--delete", "--yes", "--forget")
    assert arrays(root) == {"main"}


@pytest.mark.slow
def test_what_a_running_experiment_has_made_in_its_temporary_copy_is_kept(
    root: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = project.folder / "dvc.yaml"
    go = root.parent / "go"
    second = {"cmd": f"until test -e '{go}'; do sleep 0.1; done", "deps": [MADE]}
    stages = read_document(document)
    stages["stages"]["second"] = second
    document.write_text(yaml_text(stages))
    store.write_manifest(project.folder / "wanted.jsonl", [keep(root, "of the copy")])
    command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "-n", "copy"]
    with subprocess.Popen(command, cwd=project.folder, stdout=-3, stderr=-3) as running:
        try:
            ends = time.monotonic() + 40
            while not list((project.folder / ".dvc/tmp/exps").rglob(MADE)):
                assert time.monotonic() < ends
                assert running.poll() is None
                time.sleep(0.1)
            project.back()
            gc(project.folder, monkeypatch, "--delete", "--yes")
            assert "of the copy" in arrays(root)
            assert "loose" not in arrays(root)
        finally:
            go.touch()
        assert running.wait(60) == 0
    gc(project.folder, monkeypatch, "--delete", "--yes")  # the copy is gone, its commit is there
    assert arrays(root) == {"main", "branch", "tried", "of the copy"}


def test_a_stage_in_a_temporary_copy_registers_the_project(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "project/.dvc/tmp/exps/tmp1"
    copy.mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    assert workspace_of(copy) == tmp_path / "project"
    for other in (tmp_path / "project", tmp_path / "project/.uvlm/sweep/slots/0"):
        assert workspace_of(other) == other  # a slot is a workspace of its own


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_project_with_its_store_inside_may_be_moved_and_copied(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "Größe 2, neu"
    monkeypatch.setenv("DVC_ROOT", str(first))
    workspaces.register(store_root(), first)
    workspace(first, [keep(store_root(), "a")])
    keep(store_root(), "loose")
    move = first.rename if how == "moved" else partial(shutil.copytree, first)
    move(second)
    monkeypatch.setenv("DVC_ROOT", str(second))
    gc(second, monkeypatch, "--delete", "--yes")
    assert arrays(second) == {"a"}
    assert workspaces.registered(store_root()) == [second]
    if how == "copied":
        assert arrays(first) == {"a", "loose"}


def test_an_absolute_record_of_an_earlier_release_is_replaced(tmp_path: Path) -> None:
    root = tmp_path / "data/store"
    write_json_atomic(root / "workspaces" / f"{key_of(old := absolute(tmp_path))}.json", old)
    workspaces.register(root, tmp_path)
    (record,) = (root / "workspaces").glob("*.json")
    assert json.loads(record.read_text()) == {"computer": "", "folder": "../.."}
    workspaces.forget(root, tmp_path)
    assert workspaces.registered(root) == []


def absolute(folder: Path) -> dict[str, str]:
    return {"computer": socket.gethostname(), "folder": str(folder)}
