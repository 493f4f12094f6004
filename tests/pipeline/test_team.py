"""A team's life: one runs and pushes, others clone, pull, predict, train, queue and share.

Git, DVC and their remotes are real: a folder, and S3 as moto's server speaks it. The first run is
made once for all tests; each test clones it anew, into paths with blanks and umlauts.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.profiles import compose
from tests.conftest import TINY
from tests.pipeline.tiny_project import IDENTITY, commit, commit_copy, run, start
from uvlm.store import read_manifest

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
UVLM = (sys.executable, "-m", "pipeline.cli")


@dataclass(frozen=True)
class Team:
    """The first run, git's server, and DVC's remote."""

    folder: Path
    first: Path
    origin: Path

    def clone(self, name: str) -> Path:
        """Clone into a new folder."""
        run(self.folder, "git", "clone", "--quiet", str(self.origin), name)
        for key, value in (part.split("=") for part in IDENTITY if "=" in part):
            run(self.folder / name, "git", "config", key, value)
        return self.folder / name

    def whole_clone(self, name: str) -> Path:
        """Clone, and get everything."""
        clone = self.clone(name)
        run(clone, "dvc", "pull", "--quiet")
        run(clone, *UVLM, "store", "pull")
        return clone


def tiny() -> dict[Any, Any]:
    document = compose(ROOT, "phantom")
    for key, value in TINY.items():
        *parents, name = key.split(".")
        section = document
        for parent in parents:
            section = section[parent]
        section[name] = value
    return document


@pytest.fixture(scope="module", autouse=True)
def _mlflow_is_away(mlflow_away: Path) -> Iterator[None]:
    """In every clone: what a team shares is in git and DVC."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(mlflow_away), prepend=os.pathsep)
        yield


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, _mlflow_is_away: None) -> Team:
    """One has run everything and pushed it."""
    folder = tmp_path_factory.mktemp("team")
    made = Team(folder, folder / "die erste, für alle", folder / "origin.git")
    commit_copy(ROOT, made.first, tiny())
    run(made.first, "dvc", "remote", "add", "--quiet", "-d", "team", str(folder / "remote"))
    run(made.first, "dvc", "repro", "--quiet")
    commit(made.first, "first run")
    run(folder, "git", "clone", "--quiet", "--bare", str(made.first), str(made.origin))
    run(made.first, "git", "remote", "add", "origin", str(made.origin))
    run(made.first, "dvc", "push", "--quiet")
    run(made.first, *UVLM, "store", "push")
    return made


def stages(output: str) -> list[str]:
    return re.findall(r"Running stage '(.*)'", output)


def a_ct(team: Team) -> Path:
    rows = read_manifest(team.first / "data/manifests/index.jsonl")
    return team.first / "data/store" / rows[0].path


def test_a_clone_predicts_with_the_model_alone(team: Team) -> None:
    clone = team.clone("nur das Modell")
    run(clone, "dvc", "pull", "--quiet", "data/models/report")
    ct, out = shutil.copy(a_ct(team), clone / "CT.nii.gz"), clone / "draft"
    run(clone, *UVLM, "predict", str(ct), "--model", "data/models/report", "--out", str(out))
    assert (out / "report.txt").exists()
    assert not (clone / "data/store").exists()
    tag = ("git", *IDENTITY, "tag", "--annotate", "uvlm-report@v1.0.0", "--message", "good")
    run(team.first, *tag)
    get = ("dvc", "artifacts", "get", str(team.first), "uvlm-report", "--rev", "v1.0.0")
    run(team.folder, *get, "--out", "model")
    files = {path.name for path in (clone / "data/models/report").iterdir()}
    assert {path.name for path in (team.folder / "model").iterdir()} == files


def test_a_clone_is_told_once_what_it_lacks_and_then_trains(team: Team) -> None:
    clone = team.clone("zum Trainieren")
    run(clone, "dvc", "pull", "--quiet")
    change = ("dvc", "exp", "run", "-S", "train_cls.steps=3", "train_cls")
    refused = run(clone, *change, code=255)
    (line,) = [line for line in refused.stderr.splitlines() if "has not what the stage" in line]
    assert line.endswith("`uvlm store pull` fetches it; `dvc repro -f label_maps` makes it here")
    run(clone, *UVLM, "store", "pull")
    run(clone, *UVLM, "store", "verify")
    assert stages(run(clone, *change).stdout)[-1:] == ["train_cls"]


def test_the_other_remedy_makes_the_same_arrays(team: Team) -> None:
    clone = team.clone("ohne Speicher")
    run(clone, "dvc", "pull", "--quiet")
    run(clone, "dvc", "repro", "-f", "--quiet", "label_maps")
    assert run(clone, "git", "status", "--porcelain", "dvc.lock").stdout == ""
    for kind in ("preprocess", "label_maps"):
        for row in read_manifest(clone / f"data/manifests/{kind}.jsonl"):
            assert (clone / "data/store" / row.path).is_file()


def until_done(project: Path, names: set[str]) -> None:
    """Wait for the queue. Git says at once which experiments are there; DVC takes a core for it."""
    ends = time.monotonic() + 300
    while not names <= stored(project):
        assert time.monotonic() < ends, run(project, "dvc", "queue", "status").stdout
        time.sleep(0.5)
    while True:
        status = run(project, "dvc", "queue", "status").stdout
        if all(re.search(rf"\b{name}\b.*\bSuccess", status) for name in names):
            return
        assert "Failed" not in status, status
        assert time.monotonic() < ends, status
        time.sleep(2)


def stored(project: Path) -> set[str]:
    refs = run(project, "git", "for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps").stdout
    return set(refs.split())


def test_experiments_run_in_the_queue_and_beside_and_are_shared(team: Team) -> None:
    clone, change = team.whole_clone("mit Versuchen"), "summarize.num_examples"
    for number in (2, 3):
        run(clone, "dvc", "exp", "run", "--queue", "-n", f"q{number}", "-S", f"{change}={number}")
    # DVC may leave a worker that waits for work.
    start(clone, team.folder / "workers.log", "dvc", "queue", "start", "-j", "2")
    try:
        until_done(clone, {"q2", "q3"})
    finally:
        run(clone, "dvc", "queue", "stop", "--kill")
    run(clone, "dvc", "exp", "run", "--temp", "-n", "beside", "-S", f"{change}=4")
    assert run(clone, "git", "status", "--porcelain").stdout == ""
    assert names(clone) == {"q2", "q3", "beside"}
    run(clone, *UVLM, "store", "gc")  # no copy of the project that is gone stands in its way

    run(clone, "dvc", "exp", "push", "origin", "q2")
    run(team.first, "dvc", "exp", "pull", "origin", "q2")
    assert names(team.first) == {"q2"}
    run(team.first, "dvc", "exp", "apply", "q2")
    assert f"num_examples: {2}" in (team.first / "params.yaml").read_text()
    run(team.first, *UVLM, "store", "verify")
    run(team.first, "git", "checkout", "--quiet", ".")
    run(team.first, "dvc", "checkout", "--quiet")

    shown = run(clone, "dvc", "params", "diff", "main", "q2", "--md").stdout
    assert re.search(r"params.yaml \| summarize.num_examples \| 1 +\| 2", re.sub(" +", " ", shown))
    run(clone, "dvc", "plots", "diff", "main", "q2", "q3")
    assert (clone / "dvc_plots/index.html").exists()


def names(project: Path) -> set[str]:
    listed = run(project, "dvc", "exp", "list", "--all-commits", "--name-only").stdout
    return set(listed.split())


def test_what_one_has_run_another_takes_from_the_run_cache(team: Team) -> None:
    one, other = team.whole_clone("einer"), team.whole_clone("noch einer")
    change = ("dvc", "exp", "run", "-S", "tokenizer.vocabulary_size=300", "tokenizer")
    assert stages(run(one, *change).stdout) == ["code", "tokenizer"]
    run(one, "dvc", "push", "--quiet", "--run-cache")
    run(other, "dvc", "pull", "--quiet", "--run-cache")
    assert stages(run(other, *change[:3], "--pull", *change[3:]).stdout) == []
    vocabularies = {(c / "data/models/tokenizer/tokenizer.json").read_bytes() for c in (one, other)}
    assert len(vocabularies) == 1


@pytest.fixture
def s3() -> Iterator[Callable[[Path], None]]:
    """Adds a remote on a server that speaks S3."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=address, **keys).create_bucket(Bucket="hospital")
    settings = {"endpointurl": address, "access_key_id": "a", "secret_access_key": "b"}

    def add(project: Path) -> None:
        run(project, "dvc", "remote", "add", "-q", "--local", "-d", "s3", "s3://hospital/uvlm")
        for name, value in (settings | {"region": "us-east-1"}).items():
            run(project, "dvc", "remote", "modify", "-q", "--local", "s3", name, value)

    yield add
    server.stop()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_bucket_serves_as_well_as_a_folder(team: Team, s3: Callable[[Path], None]) -> None:
    one, other = team.whole_clone("schiebt"), team.clone("zieht")
    for clone in (one, other):
        s3(clone)
    run(one, "dvc", "push", "--quiet")
    run(one, *UVLM, "store", "push")
    run(other, "dvc", "pull", "--quiet")
    run(other, *UVLM, "store", "pull")
    run(other, *UVLM, "store", "verify")
    assert stages(run(other, "dvc", "repro").stdout) == []
