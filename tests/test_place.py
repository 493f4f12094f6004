"""Which process this is, by what started it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from uvlm import environment
from uvlm.errors import ConfigError
from uvlm.processes import Place, is_srun, place

_TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
_BATCH_SCRIPT = {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4"}
_SRUN = {**_BATCH_SCRIPT, "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8"}


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*_TORCHRUN, *_SRUN):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, Place(0, 1, 1)),
        (_TORCHRUN, Place(5, 8, 4)),
        (_BATCH_SCRIPT, Place(0, 1, 1)),
        (_SRUN, Place(3, 8, 4)),
        ({**_SRUN, **_TORCHRUN}, Place(5, 8, 4)),  # torchrun inside a job
    ],
)
def test_the_place_is_read_from_what_started_the_process(
    variables: dict[str, str], expected: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert place() == expected
    assert place().is_first == (expected.rank == 0)
    assert place().num_nodes == expected.world_size // expected.local_size
    assert is_srun() == (variables == _SRUN)


def test_srun_without_tasks_per_node_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(ConfigError, match="--ntasks-per-node"):
        place()


@pytest.mark.parametrize("text", ["0", "two", "-1", "1.5"])
def test_a_wrong_number_of_processes_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVLM_DEVICES", text)
    with pytest.raises(ConfigError, match="UVLM_DEVICES"):
        environment.DEVICES.read()


@pytest.mark.slow
def test_the_exit_code_of_several_processes_is_that_of_the_first_to_fail(root: Path) -> None:
    """One process fails at once, the other would wait for an hour."""
    body = (
        "import os, sys, time\n"
        "from pipeline import launch\n"
        "launch._GRACE_S = 1.0\n"
        "launch.run_processes()\n"
        "sys.exit(3) if os.environ['RANK'] == '1' else time.sleep(3600)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", body],
        env={**os.environ, "UVLM_DEVICES": "2", "PYTHONPATH": str(root)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
