"""kill -9 while the cache is written: no file is unreadable afterwards, and no case is lost.

UVLM_KILLS=200 pytest -s tests/data/test_killed_writers.py      the whole campaign
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.profiles import write_params
from uvlm.config import Params
from uvlm.data.cases import Case, write_index
from uvlm.data.ct.io import write_volume
from uvlm.data.ct.volume import Volume
from uvlm.files import store_root
from uvlm.store import load_array, loose_files, read_manifest, read_note

KILLS = int(os.environ.get("UVLM_KILLS", "10"))
CASES = 12

# Forks a process that preprocesses for every line it is sent; says its pid, then how it ended.
_SERVER = """
import os, sys
from pathlib import Path
import blosc2
from uvlm.config import load_params
from uvlm.data.cases import read_index
from uvlm.data.preprocess import Volumes
from uvlm.store import every_case
root = Path(sys.argv[1])
params = load_params(root / "params.yaml")
out, quarantine = root / "preprocess.jsonl", root / "quarantine.jsonl"
for _ in sys.stdin:
    pid = os.fork()
    if pid == 0:
        cases = read_index(root / "index.jsonl")
        every_case.run(Volumes.of(params), cases, out, 1.0, quarantine)
        os._exit(0)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Server:
    """Starts preprocessing again and again, killed after a time or not at all."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, until: Callable[[], object] | None = None) -> bool:
        """Preprocess, killed when `until` returns; whether it was killed before it was done."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        pid = self._number()
        if until is not None:
            until()
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                assert self._number() == 0
                return False
        status = self._number()
        assert status in (0, signal.SIGKILL)
        return status == signal.SIGKILL

    def _number(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


@contextmanager
def serve(root: Path) -> Iterator[Server]:
    command = [sys.executable, "-c", _SERVER, str(root)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Server(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def prepared(
    tmp_path: Path,
    params: Params,
    chest: Callable[..., npt.NDArray[np.int16]],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """An index of CTs whose preprocessing takes a moment."""
    monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "store"))
    monkeypatch.setenv("UVLM_WORKERS", "1")
    larger = params.preprocess.model_copy(update={"grid": (64, 128, 128)})
    document = params.model_copy(update={"preprocess": larger}).model_dump(mode="json")
    write_params(tmp_path, document)
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = [2.0, 1.0, 1.0, 1.0]
    array = chest(32, 64, 64)
    cases = []
    for number in range(CASES):
        name = f"train_{number}"
        write_volume(store_root() / f"raw/{name}.nii.gz", Volume(np.roll(array, number), affine))
        cases.append(
            Case(
                case_id=f"{name}_a_1",
                scan_id=f"{name}_a",
                patient_id=name,
                split="train",
                volume=f"raw/{name}.nii.gz",
                findings_mask=None,
                finding_categories={},
                abnormalities=(0,) * 18,
                findings="Clear.",
                impression="",
            )
        )
    write_index(tmp_path / "index.jsonl", cases)
    return tmp_path


def stored(cache: Path) -> list[Path]:
    """All arrays in the cache."""
    return list(cache.rglob("*.b2nd"))


def forget(cache: Path, manifest: Path) -> None:
    """Begin with an empty cache; what killed processes left behind stays."""
    for path in [*stored(cache), manifest]:
        path.unlink(missing_ok=True)


def readable(path: Path) -> bool:
    """Whether a stored array has its note and the content that the note promises."""
    note = read_note(path)
    return note is not None and load_array(path, note["sha256"]).size > 0


@pytest.mark.slow
@pytest.mark.timeout(60 + 30 * KILLS)
def test_killed_writers_leave_no_unreadable_file_and_lose_no_case(prepared: Path) -> None:
    manifest, cache = prepared / "preprocess.jsonl", store_root() / "preprocess"
    draws, killed, unreadable, written = random.Random(0), 0, [], 0

    def a_moment() -> None:
        """Wait until some more arrays are there, and then for part of the next one."""
        wanted = draws.randint(len(stored(cache)), CASES // 2)
        give_up = time.monotonic() + 60
        while len(stored(cache)) < wanted and time.monotonic() < give_up:
            time.sleep(0.001)
        time.sleep(draws.uniform(0, seconds_per_case))

    with serve(prepared) as server:
        server.run()
        start = time.monotonic()
        forget(cache, manifest)
        server.run()
        seconds_per_case = (time.monotonic() - start) / CASES
        whole = manifest.read_bytes()
        while killed < KILLS:
            if len(stored(cache)) > CASES // 2:  # little left to write: begin anew
                forget(cache, manifest)
            killed += server.run(a_moment)
            arrays = stored(cache)
            written += len(arrays)
            unreadable += [path for path in arrays if not readable(path)]
            if manifest.exists():
                assert manifest.read_bytes() == whole
        server.run()
    lost = CASES - len(read_manifest(manifest))
    sys.stdout.write(
        f"{killed} kills, {written} arrays read after them: "
        f"{len(unreadable)} unreadable, {lost} cases lost\n"
    )
    assert unreadable == []
    assert manifest.read_bytes() == whole
    assert written > KILLS
    named = {row.path for row in read_manifest(manifest)}
    assert loose_files(store_root(), named) == []
    left = [path for path in store_root().rglob(".*") if ".b2nd." in path.name]
    assert [path for path in left if not path.name.endswith(".lock")] == []  # swept by the writers
