"""`uvlm store gc` keeps what any workspace, branch or experiment names, and asks before it removes.

The workspaces are real: git and DVC keep their manifests, as they do after a run.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli import app
from pipeline.named import named_by
from uvlm import store
from uvlm.errors import ConfigError, DataError, SetupError
from uvlm.store import Row, workspaces

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


def test_the_manifests_of_branches_and_experiments_count(root: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()

    def call(*command: str) -> None:
        subprocess.run(command, cwd=project, check=True, capture_output=True)

    def made(name: str, *how: str) -> None:
        store.write_manifest(project / "wanted.jsonl", [keep(root, name)])
        call(sys.executable, "-m", "dvc", *how)

    call("git", "init", "-q", "-b", "main")
    call("git", "config", "user.email", "a@b.c")
    call("git", "config", "user.name", "A")
    call(sys.executable, "-m", "dvc", "init", "-q")
    (project / "dvc.yaml").write_text(STAGE)
    (project / "data/manifests").mkdir(parents=True)
    made("main", "repro")
    call("git", "add", ".")
    call("git", "commit", "-qm", "main")
    call("git", "switch", "-qc", "other")
    made("branch", "repro")
    call("git", "commit", "-qam", "branch")
    call("git", "switch", "-q", "main")
    call(sys.executable, "-m", "dvc", "checkout", "-q")
    made("experiment", "exp", "run", "-n", "tried")
    call("git", "checkout", "-q", ".")
    call(sys.executable, "-m", "dvc", "checkout", "-q")
    keep(root, "loose")
    named = named_by([project])
    loose = [file.path for file in store.loose_files(root, named.paths)]
    assert loose == ["preprocess/loose.b2nd"]
    assert (named.manifests, named.unknown) == (4, 0)  # main twice: as a file and in the cache
