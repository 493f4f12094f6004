"""docs/chest.sbatch under a fake scheduler: which ends are queued again, and who is warned."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "chest.sbatch"
# As the real one does: a shell between it and the stage, and the code of the stage in a message.
DVC = """#!/bin/bash
sh -c "{python} -m pipeline.stage_of_test ${{*:2}}"
code=$?
[ $code -eq 0 ] && exit 0
echo "ERROR: failed to run: python -m pipeline.stage_of_test, exited with $code"
exit 255
"""
STAGE = """
import pathlib, signal, sys, time

def save(number, frame):
    pathlib.Path("warned").write_text("")
    sys.exit(5)

signal.signal(signal.SIGUSR1, save)
pathlib.Path("ready").write_text("")
if sys.argv[1:]:
    sys.exit(int(sys.argv[1]))
time.sleep(60)
"""


def job(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the script with a dvc and a scontrol of the test."""
    (folder / "pipeline").mkdir()
    (folder / "pipeline" / "__init__.py").write_text("")
    (folder / "pipeline" / "stage_of_test.py").write_text(STAGE)
    commands = folder / "bin"
    commands.mkdir()
    (commands / "dvc").write_text(DVC.format(python=sys.executable))
    (commands / "scontrol").write_text('#!/bin/bash\necho "$@" > requeued\n')
    for path in commands.iterdir():
        path.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "SLURM_JOB_ID": "7",
        "SLURM_SUBMIT_DIR": str(folder),
    }
    command = ["bash", str(SCRIPT), *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.parametrize(("code", "ends_with"), [("0", 0), ("3", 255), ("70", 255)])
def test_what_is_done_or_broken_is_not_queued_again(
    tmp_path: Path, code: str, ends_with: int
) -> None:
    process = job(tmp_path, code)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == ends_with, said
    assert not (tmp_path / "requeued").exists()


@pytest.mark.slow
def test_a_stage_that_was_stopped_by_something_else_is_queued_again(tmp_path: Path) -> None:
    process = job(tmp_path, "5")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "exited with 5" in said
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"


@pytest.mark.slow
def test_the_warning_reaches_the_stage_which_saves_and_the_job_is_queued_again(
    tmp_path: Path,
) -> None:
    process = job(tmp_path)
    end = time.monotonic() + 60
    while not (tmp_path / "ready").exists() and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=60)
    assert (tmp_path / "warned").exists()
    assert process.returncode == 5
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"
