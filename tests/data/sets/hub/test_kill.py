"""A download that is killed at any moment leaves no wrong file, and the next run continues it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.data.sets.hub.server import COMMIT, FakeHub, ranges, serve

PATH = "volumes/large.nii.gz"
KILLS = 5
FETCH = """
import sys
from pathlib import Path
from uvlm.data.sets.hub import Hub, Patience, Repo, Snapshot
endpoint, repo, commit, folder, path = sys.argv[1:]
snapshot = Snapshot(Hub(endpoint, Patience(waits=(1.0,))), Repo(repo, commit), Path(folder))
snapshot.fetch([path], "files")
"""


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    content = np.random.default_rng(1).bytes(48 << 20)
    with serve(FakeHub({PATH: content}, pace=0.002)) as hub:
        yield hub


def start(fake: FakeHub, folder: Path) -> subprocess.Popen[bytes]:
    arguments = (fake.endpoint, fake.repo, COMMIT, str(folder), PATH)
    environment = {"HF_HUB_OFFLINE": "0", "PYTHONPATH": str(Path(__file__).parents[4])}
    return subprocess.Popen([sys.executable, "-c", FETCH, *arguments], env=environment)


@pytest.mark.slow
def test_every_kill_is_survived_and_no_byte_is_fetched_twice_but_the_last_ones(
    fake: FakeHub, tmp_path: Path
) -> None:
    target, part = tmp_path / PATH, tmp_path / "volumes/.large.nii.gz.part"
    whole = fake.files[PATH]
    for number in range(1, KILLS + 1):
        process = start(fake, tmp_path)
        while not part.exists() or part.stat().st_size < number * len(whole) // (KILLS + 1):
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not target.exists()
        assert whole.startswith(part.read_bytes())
    last = start(fake, tmp_path)
    assert last.wait(120) == 0
    assert target.read_bytes() == whole
    assert not part.exists()
    assert sum(ranges(fake).values()) == KILLS
    assert fake.counted("paths-info") == 1
