"""Preprocessing on a cluster, in shares and in many processes at once: always the same manifest."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import types
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import joblib
import pytest
from joblib._parallel_backends import ThreadingBackend

from pipeline.profiles import write_params
from uvlm.data.preprocess import Volumes
from uvlm.errors import ConfigError, SetupError
from uvlm.files import store_root
from uvlm.store import Shard, every_case, map_cases, read_manifest
from uvlm.store.fanout import largest_worker

if TYPE_CHECKING:
    from tests.data.conftest import Stages

# Preprocesses as the stage does and says which arrays this process made.
_WORKER = """
import sys
from pathlib import Path
from uvlm.config import load_params
from uvlm.data.cases import read_index
from uvlm.data.preprocess import Volumes
from uvlm.store import every_case, once
made, save = [], once.save_array
def counting(path, *rest):
    made.append(path.name)
    return save(path, *rest)
once.save_array = counting
root = Path(sys.argv[1])
params = load_params(root / "params.yaml")
out = root / f"preprocess-{sys.argv[2]}.jsonl"
sys.stdin.readline()
cases, quarantine = read_index(root / "index.jsonl"), root / f"quarantine/{sys.argv[2]}.jsonl"
every_case.run(Volumes.of(params), cases, out, 1.0, quarantine)
print(*made)
"""


@pytest.fixture
def cluster() -> Iterator[str]:
    """Two Dask workers, each a process of its own; gives the scheduler's address."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address.replace("tcp://", "dask://")


@pytest.mark.slow
def test_two_dask_workers_give_the_identical_manifest(
    stages: Stages, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.index()
    stages.preprocess()
    here = stages.manifest("preprocess").read_bytes()
    monkeypatch.setenv("UVLM_DATA_ROOT", str(stages.root / "store"))
    for path in (store_root() / "preprocess").rglob("*.b2nd"):
        path.unlink()
    monkeypatch.setenv("UVLM_EXECUTOR", cluster)
    assert stages.preprocess() == {"kept": 11}
    assert stages.manifest("preprocess").read_bytes() == here
    assert len(list((store_root() / "preprocess").rglob("*.b2nd"))) == 11
    workers = set(map_cases(os.readlink, ["/proc/self"] * 16))
    assert len(workers) == 2
    assert str(os.getpid()) not in workers


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("uvlm.store.fanout._PATIENCE_S", 1)
    monkeypatch.setenv("UVLM_EXECUTOR", "dask://127.0.0.1:9")
    with pytest.raises(SetupError, match=r"dask://127\.0\.0\.1:9 does not answer"):
        map_cases(abs, range(4))


def test_ray_is_reached_through_its_own_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    def register_ray() -> None:
        joblib.register_parallel_backend("ray", ThreadingBackend)

    ray = types.ModuleType("ray.util.joblib")
    ray.register_ray = register_ray  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray.util.joblib", ray)
    monkeypatch.setenv("UVLM_EXECUTOR", "ray")
    monkeypatch.setenv("UVLM_WORKERS", "2")
    assert map_cases(abs, range(-40, 0)) == list(range(40, 0, -1))


def test_shares_fill_the_store_and_the_whole_run_only_assembles(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.index()
    stages.preprocess()
    whole = stages.manifest("preprocess").read_bytes()
    for path in (store_root() / "preprocess").rglob("*.b2nd"):
        path.unlink()
    stages.manifest("preprocess").unlink()
    for number in (1, 2, 3):
        every_case.run_shard(Volumes.of(stages.params), stages.cases(), Shard(number, 3))
        assert not stages.manifest("preprocess").exists()

    def never(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr("uvlm.store.once.save_array", never)
    stages.preprocess()
    assert stages.manifest("preprocess").read_bytes() == whole


@pytest.mark.parametrize("count", [1, 2, 3, 7, 30])
def test_shares_are_a_partition(count: int) -> None:
    shares = [Shard.parse(f"{i}/{count}").of(range(20)) for i in range(1, count + 1)]
    assert sorted(item for share in shares for item in share) == list(range(20))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "1/3/5", "-1/3", ""])
def test_a_share_that_does_not_exist_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--shard.*i/n"):
        Shard.parse(text)


def start(root: Path, name: str) -> subprocess.Popen[str]:
    """Start a process that waits for a line before it preprocesses."""
    command = [sys.executable, "-c", _WORKER, str(root), name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_eight_processes_on_one_store_make_each_array_once(stages: Stages) -> None:
    stages.index()
    write_params(stages.root, stages.params.model_dump(mode="json"))
    processes = [start(stages.root, str(number)) for number in range(8)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    made = Counter(name for output in outputs for name in output.split())
    manifests = {(stages.root / f"preprocess-{n}.jsonl").read_bytes() for n in range(8)}
    assert len(manifests) == 1
    rows = read_manifest(stages.root / "preprocess-0.jsonl")
    assert made == {Path(row.path).name: 1 for row in rows}
    assert len(rows) == 11
    left = [path for path in (store_root() / "preprocess").rglob("*") if path.is_file()]
    assert len(left) == 11  # no lock, no temporary file


@pytest.mark.slow
def test_a_worker_that_is_killed_names_its_case_and_fewer_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UVLM_WORKERS", "2")
    items = [types.SimpleNamespace(case_id=f"case_{n}") for n in range(8)]
    with pytest.raises(SetupError) as caught:
        map_cases(Killed("case_5"), items, description="label_maps")
    line = str(caught.value)
    assert re.search(r"label_maps: a worker was killed.* at one of .*case_5", line)
    assert "lower UVLM_WORKERS (it was 2)" in line
    assert caught.value.exit_code == 4


@pytest.mark.slow
def test_the_memory_of_workers_is_known_before_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVLM_WORKERS", "2")
    before = largest_worker()  # of other tests in this process
    map_cases(Filled(300 << 20), list(range(8)))
    assert 300 << 20 < largest_worker() <= max(before, 1500 << 20)


@dataclass
class Killed:
    """Dies at one case, as under the kernel's killer of processes that take too much memory."""

    victim: str

    def __call__(self, item: types.SimpleNamespace) -> str:
        if item.case_id == self.victim:
            os.kill(os.getpid(), signal.SIGKILL)
        return str(item.case_id)


@dataclass
class Filled:
    """Takes so many bytes for a moment."""

    num_bytes: int

    def __call__(self, item: int) -> int:
        return len(bytes(b"x" * self.num_bytes)) and item
