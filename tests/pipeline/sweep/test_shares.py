"""What each worker of a sweep gets of a computer, and where it finds the project's places."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.sweep.shares import Shares, places
from uvlm import environment
from uvlm.errors import ConfigError

NAMES = ("UVLM_WORKERS", "UVLM_THREADS", "UVLM_LOADERS", "UVLM_MEMORY", "UVLM_DEVICE",
         "UVLM_DEVICES", "CUDA_VISIBLE_DEVICES")  # fmt: skip


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def test_one_worker_has_no_limits() -> None:
    assert Shares(1, 8 * 10**9, ("0", "1")).of(0) == {}


def test_workers_share_cores_and_memory_evenly() -> None:
    assert Shares(3, 9 * 10**9, ()).of(2) == {
        "UVLM_WORKERS": "2", "UVLM_THREADS": "2", "UVLM_MEMORY": "3000MB"
    }  # fmt: skip
    assert Shares(20, 10**6, ()).of(0)["UVLM_WORKERS"] == "1"


def test_shares_are_accepted_by_what_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in Shares(2, 10**10, ("0",)).of(0).items():
        monkeypatch.setenv(name, value)
    assert environment.MEMORY.read() == 5 * 10**9
    assert (environment.WORKERS.read(), environment.THREADS.read()) == (4, 4)
    assert environment.LOADERS.read() == 4


def test_what_a_user_has_set_counts_for_every_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVLM_MEMORY", "6GB")
    monkeypatch.setenv("UVLM_WORKERS", "")  # empty is not set
    shares = Shares(2, 8 * 10**9, ()).of(0)
    assert "UVLM_MEMORY" not in shares
    assert shares["UVLM_WORKERS"] == "4"


@pytest.mark.parametrize(
    ("gpus", "of_a_training", "expected"),
    [
        (("0", "1", "2"), 1, ["0", "1", "2", "0"]),
        (("3", "GPU-ab"), 1, ["3", "GPU-ab", "3", "GPU-ab"]),
        (("0", "1", "2", "3", "4"), 2, ["0,1", "2,3", "0,1", "2,3"]),
        (("0",), 1, ["0"] * 4),
        (("0",), 2, [None] * 4),  # the training itself says what is missing
        ((), 1, [None] * 4),
    ],
)
def test_workers_are_spread_over_gpus(
    gpus: tuple[str, ...],
    of_a_training: int,
    expected: list[str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UVLM_DEVICES", str(of_a_training))
    shares = Shares(4, 10**9, gpus)
    assert [shares.of(n).get("CUDA_VISIBLE_DEVICES") for n in range(4)] == expected


@pytest.mark.parametrize(
    ("device", "visible", "found"),
    [
        ("auto", "2,5", ["2", "5"]),
        ("cuda", " 2 , 5", ["2", "5"]),
        ("auto", "0,-1,1", ["0"]),
        ("auto", "", []),
        ("cuda:1", "2,5", []),
        ("cpu", "2,5", []),
    ],
)
def test_gpus_are_those_that_cuda_sees_unless_one_is_chosen(
    device: str, visible: str, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_DEVICE", device)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert list(Shares.of_this_computer(2).gpus) == found
    assert list(Shares.of_this_computer(1).gpus) == []


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:///my runs.db", "sqlite:///{root}/my runs.db"),
        ("sqlite:////srv/runs.db", "sqlite:////srv/runs.db"),
        ("mlruns", "{root}/mlruns"),
        ("/srv/mlruns", "/srv/mlruns"),
        ("https://runs.example/x", "https://runs.example/x"),
        ("databricks", "databricks"),
    ],
)
def test_places_do_not_depend_on_the_folder_of_a_worker(
    uri: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("UVLM_DATA_ROOT", "../store")
    found = places(tmp_path)
    assert found["MLFLOW_TRACKING_URI"] == expected.format(root=tmp_path)
    assert found["UVLM_DATA_ROOT"] == str(tmp_path.parent / "store")
    assert found["DVC_ROOT"] == str(tmp_path)


def test_a_wrong_variable_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_DOWNLOADS", "many")
    with pytest.raises(ConfigError, match="UVLM_DOWNLOADS: is 'many'"):
        places(tmp_path)
