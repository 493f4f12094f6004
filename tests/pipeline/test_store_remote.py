"""`uvlm store push` and `pull` over real remotes of DVC: a folder, and S3 as moto serves it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import remote as remotes
from pipeline.cli import app
from uvlm import store
from uvlm.errors import ConfigError, DataError, SetupError
from uvlm.files import file_sha256
from uvlm.store import Row

pytestmark = pytest.mark.filterwarnings(
    # Of the packages behind DVC's remotes.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::ResourceWarning",
)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A server that speaks S3, with one bucket; its address."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=address, **keys).create_bucket(Bucket="hospital")
    yield address
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The settings of a remote, empty for each test."""
    if request.param == "folder":
        return f"url = {tmp_path / 'für alle'}"
    address = request.getfixturevalue("s3")
    keys = "access_key_id = a\n    secret_access_key = b\n    region = us-east-1"
    return f"url = s3://hospital/{tmp_path.name}\n    endpointurl = {address}\n    {keys}"


@dataclass(frozen=True)
class Computer:
    """A workspace with a store of its own."""

    workspace: Path
    root: Path

    def call(self, *command: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.workspace)
            patch.setenv("UVLM_DATA_ROOT", str(self.root))
            app(["store", *command], standalone_mode=False)

    def keep(self, name: str, number: int = 0) -> Row:
        path = f"preprocess/{name}.b2nd"
        digest = store.save_array(self.root / path, np.arange(10) + number)
        return Row(name, "k", path, digest, "test")

    def names(self, rows: Sequence[Row], manifest: str = "preprocess") -> None:
        store.write_manifest(self.workspace / f"data/manifests/{manifest}.jsonl", rows)

    def files(self) -> dict[str, str]:
        """The digest of each file of the store, but for who uses it."""
        return {
            str(path.relative_to(self.root)): file_sha256(path)
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and "workspaces" not in path.parts
        }


def computer(folder: Path, remote: str) -> Computer:
    dvc = folder / "das Projekt" / ".dvc"
    dvc.mkdir(parents=True)
    section = "" if not remote else f"\n    remote = shared\n['remote \"shared\"']\n    {remote}\n"
    (dvc / "config").write_text(f"[core]\n    no_scm = true\n    analytics = false{section}")
    return Computer(dvc.parent, folder / "ein Speicher")


@pytest.mark.slow
def test_what_one_pushes_another_pulls_and_a_second_time_nothing_is_copied(
    remote: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = computer(tmp_path / "first", remote), computer(tmp_path / "second", remote)
    rows = [first.keep(name, number) for number, name in enumerate(("a", "b", "aü c"))]
    raw = first.root / "raw/phantom-1/reports.csv"
    raw.parent.mkdir(parents=True)
    raw.write_text("one,two")
    digest = hashlib.sha256(b"one,two").hexdigest()
    table = Row("reports.csv", "k", "raw/phantom-1/reports.csv", digest, "phantom:0")
    for one in (first, second):
        one.names(rows)
        one.names([table], "download")
    first.keep("named by nothing")
    first.call("push")
    second.call("pull")
    wanted = first.files()
    del wanted["preprocess/named by nothing.b2nd"]
    assert second.files() == wanted
    assert capsys.readouterr().out.count("4 files") == 2
    second.call("verify")
    first.call("push")
    second.call("pull")
    assert capsys.readouterr().out.count(": 0 files") == 2


@pytest.mark.slow
def test_two_computers_that_round_differently_keep_both(remote: str, tmp_path: Path) -> None:
    first, second = computer(tmp_path / "first", remote), computer(tmp_path / "second", remote)
    clone = computer(tmp_path / "clone", remote)
    rows = first.keep("a", 1), second.keep("a", 2)
    for one, row in zip((first, second), rows, strict=True):
        one.names([row])
        one.call("push")
    for one, row in zip((first, second), rows, strict=True):
        clone.names([row])
        (clone.root / row.path).unlink(missing_ok=True)
        clone.call("pull")
        assert clone.files() == one.files()


@pytest.mark.slow
def test_what_is_on_neither_side_is_named_after_the_rest_was_copied(
    remote: str, tmp_path: Path
) -> None:
    first, second = computer(tmp_path / "first", remote), computer(tmp_path / "second", remote)
    rows = [first.keep("a"), first.keep("b")]
    (first.root / rows[0].path).unlink()
    for one, way in ((first, "push"), (second, "pull")):
        one.names(rows)
        with pytest.raises(DataError, match=r"has not 1 files .* such as preprocess/a.b2nd \(1 f"):
            one.call(way)
    assert set(second.files()) == {"preprocess/b.b2nd"}


def test_nothing_damaged_is_pushed_or_pulled(tmp_path: Path) -> None:
    folder = tmp_path / "remote"
    first, second = (computer(tmp_path / name, f"url = {folder}") for name in ("first", "second"))
    row = first.keep("a")
    first.names([row])
    second.names([row])
    whole = (first.root / row.path).read_bytes()
    for damage in (whole[:-20], bytes([whole[-40] ^ 1]).join((whole[:-40], whole[-39:])), b""):
        (first.root / row.path).write_bytes(damage)
        with pytest.raises(DataError, match=r"a.b2nd: is damaged; `uvlm store verify`"):
            first.call("push")
        assert [path for path in folder.rglob("*") if path.is_file()] == []
    (first.root / row.path).write_bytes(whole)
    first.call("push")
    (pushed,) = (path for path in folder.rglob("*") if path.is_file())
    pushed.write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"a.b2nd: is damaged; remove it from .*remote"):
        second.call("pull")
    assert second.files() == {}


def test_what_a_hub_can_send_again_stays_there(tmp_path: Path) -> None:
    manifest = tmp_path / "download.jsonl"
    commit = "a" * 40
    store.write_manifest(
        manifest,
        [
            Row("ct", "k", f"raw/{commit}/x/ct.nii.gz", "1" * 64, f"hub:a/b@{commit}"),
            Row("own", "k", "raw/own/ct.nii.gz", "2" * 64, "own"),
        ],
    )
    index = manifest.with_name("index.jsonl")  # names the same volumes
    store.write_manifest(index, [Row("own", "k", "raw/own/ct.nii.gz", "", "own")])
    assert [row.case for row in remotes.named_rows([manifest, index])] == ["own"]


@pytest.mark.parametrize("way", ["push", "pull"])
def test_a_remote_that_is_missing_or_cannot_be_used_is_one_line(way: str, tmp_path: Path) -> None:
    none = computer(tmp_path / "none", "")
    none.names([none.keep("a")])
    with pytest.raises(ConfigError, match=r"no remote specified .* `dvc remote add"):
        none.call(way)
    with pytest.raises(ConfigError, match=r"remote 'other'.*`dvc remote list`"):
        none.call(way, "--remote", "other")
    (tmp_path / "a file").write_text("")
    file = computer(tmp_path / "file", f"url = {tmp_path / 'a file'}")
    row = file.keep("a")
    file.names([row])
    if way == "push":  # an empty place is a remote to pull nothing from
        with pytest.raises(SetupError, match=r"a file: cannot be used \(.*Error"):
            file.call(way)


def test_without_a_manifest_there_is_nothing_to_move(tmp_path: Path) -> None:
    here = computer(tmp_path / "here", f"url = {tmp_path / 'remote'}")
    with pytest.raises(DataError, match=r"holds no manifest; run `dvc pull`, or `dvc repro`"):
        here.call("pull")


@dataclass
class Breaking:
    """A file system that breaks in the middle of its third file."""

    whole: Any
    calls: list[str] = field(default_factory=list)

    def get_file(self, name: str, target: str) -> None:
        self.calls.append(name)
        if len(self.calls) == 3:
            Path(target).write_bytes(b"half")
            raise ConnectionError("the line is dead")
        self.whole.get_file(name, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)


def test_after_a_broken_connection_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"url = {tmp_path / 'remote'}"
    first, second = computer(tmp_path / "first", url), computer(tmp_path / "second", url)
    rows = [first.keep(str(number), number) for number in range(6)]
    for one in (first, second):
        one.names(rows)
    first.call("push")
    monkeypatch.setenv("UVLM_DOWNLOADS", "1")
    whole = remotes.open_remote(second.workspace, None)
    broken = replace(whole, fs=Breaking(whole.fs))
    with pytest.raises(SetupError, match=r"remote: cannot be used .*the line is dead"):
        remotes.pull(second.root, rows, broken, (), None)
    assert second.files().items() < first.files().items()
    assert "preprocess/2.b2nd" not in second.files()
    second.call("pull")
    assert second.files() == first.files()


def test_the_command_names_both_in_its_help() -> None:
    command = [sys.executable, "-m", "pipeline.cli", "store", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert {"push", "pull"} <= {line.split()[0] for line in shown.splitlines() if line.strip()}
