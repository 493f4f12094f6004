"""A training killed at any step, in any way, and continued ends with the same bits.

By default four of the 30 steps are killed by each of the three signals. Every step by one of them,
and every step by all three:

    UVLM_KILLS=10 pytest -s tests/train/loop/test_killed_trainings.py
    UVLM_KILLS=30 pytest -s tests/train/loop/test_killed_trainings.py
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.profiles import write_params
from tests.train.chain import Chain
from uvlm.config import Params
from uvlm.errors import SetupError

pytestmark = pytest.mark.slow

STEPS = 30
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1)
KILLS = min(int(os.environ.get("UVLM_KILLS", "4")), STEPS)  # a signal, objective
PLACES = ("forward", "optimizer", "step")
CHANGES = {"val_every": 10, "checkpoint_minutes": 0.002}  # a few steps
BY_NAME: dict[str, dict[str, Any]] = {
    "seg": {"steps": STEPS, **CHANGES},
    "cls": {"steps": STEPS - 10, "head_warmup_steps": 10, "encoder_lr_scale": 0.1, **CHANGES},
    "report": {"steps": STEPS, **CHANGES},
}


class Trainings:
    """Trainings of one objective in processes of their own."""

    def __init__(self, process: subprocess.Popen[str], project: Path, errors: Path) -> None:
        self._process, self._project, self._errors = process, project, errors

    @property
    def states(self) -> Path:
        """Where unfinished trainings are kept."""
        return self._project / ".uvlm" / "state"

    def run(self, name: str, **order: Any) -> int:
        """Train to the end; returns the exit code."""
        self._start(name, **order)
        return self._number()

    def stopped(self, name: str, number: int, at: int, where: str, **order: Any) -> int:
        """Train until the stop, send a signal there; returns the exit code, minus the signal's."""
        pid = self._start(name, stop=[at, where], **order)
        assert self._line() == "here"
        os.kill(pid, number)
        if number != signal.SIGKILL:
            self._say("go on")
        return self._number()

    @contextmanager
    def held(self, name: str, step: int) -> Iterator[None]:
        """Keep a training waiting at a step; afterwards it comes to its good end."""
        self._start(name, stop=[step, "step"])
        assert self._line() == "here"
        yield
        self._say("go on")
        assert self._number() == 0

    def said(self) -> str:
        """What the trainings said on stderr since the last time."""
        text = self._errors.read_text()
        self._errors.write_text("")
        return text

    def weights(self, name: str) -> dict[str, bytes]:
        """The files of the finished model folder, which is taken away."""
        folder = self._project / "data" / "models" / name
        assert list(self.states.iterdir()) == []
        files = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
        shutil.rmtree(folder)
        return files

    def digests(self) -> list[str]:
        """Digests of the weights after every step since the last time."""
        path = self._project / "digests.txt"
        lines = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def _start(self, name: str, **order: Any) -> int:
        changes = BY_NAME[name] | order.pop("changes", {})
        self._say(json.dumps({"name": name, "changes": changes, **order}))
        return self._number()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _number(self) -> int:
        return int(self._line())


@pytest.fixture
def trainings(chain: Chain, params: Params, tmp_path: Path, root: Path) -> Iterator[Trainings]:
    chain.seg(steps=0)
    chain.cls(steps=0)
    chain.encode()
    shutil.copytree(chain.models / "seg", tmp_path / "start")
    write_params(tmp_path, params.model_dump(mode="json"))
    errors = tmp_path / "errors.txt"
    with (
        errors.open("a") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", "tests.train.serve", str(tmp_path)],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        yield Trainings(process, tmp_path, errors)
        assert process.stdin is not None
        process.stdin.close()


def chosen_steps(number: int) -> list[int]:
    """Evenly spread steps to be killed at; the signals take turns, so that three leave no gap."""
    return [1 + (SIGNALS.index(number) + turn * STEPS // KILLS) % STEPS for turn in range(KILLS)]


@pytest.mark.timeout(120 + 20 * len(SIGNALS) * KILLS)
@pytest.mark.parametrize("name", BY_NAME)
def test_a_training_killed_at_any_step_continues_to_the_same_bits(
    trainings: Trainings, name: str
) -> None:
    assert trainings.run(name) == 0
    whole, every_step = trainings.weights(name), trainings.digests()
    assert len(set(every_step)) == STEPS
    equal: list[bool] = []
    killed: list[tuple[int, int]] = []
    for number in SIGNALS:
        for turn, step in enumerate(chosen_steps(number)):
            code = trainings.stopped(name, number, step, PLACES[turn % len(PLACES)])
            killed.append((number, step))
            if number == signal.SIGKILL:
                assert code == -signal.SIGKILL
            else:
                assert code == 5
                said = trainings.said()
                assert f"stopped by {signal.Signals(number).name} after step" in said
                assert "run the same command to continue" in said
            before = trainings.digests()
            assert trainings.run(name) == 0
            after = trainings.digests()
            equal.append(
                trainings.weights(name) == whole
                and before == every_step[: len(before)]
                and after == every_step[STEPS - len(after) :]
                and len(before) + len(after) >= STEPS
            )
    sys.stdout.write(f"{name}: {len(equal)} kills, {sum(equal)} continued to the same bits\n")
    assert all(equal)
    assert len(set(killed)) == len(equal) == len(SIGNALS) * KILLS
    if len(SIGNALS) * KILLS >= STEPS:
        assert {step for _, step in killed} == set(range(1, STEPS + 1))


def test_a_training_killed_while_it_saves_continues_to_the_same_bits(
    trainings: Trainings,
) -> None:
    """Killed in the first save and in the second, which also moves the first one's file away."""
    assert trainings.run("seg") == 0
    whole = trainings.weights("seg")
    for renames in range(6):
        assert trainings.stopped("seg", signal.SIGKILL, renames, "rename") == -signal.SIGKILL
        assert trainings.run("seg") == 0
        assert trainings.weights("seg") == whole


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[: len(content) // 2]
    elif how == "flipped":
        content[-5] ^= 1
    else:
        content = bytearray()
    path.write_bytes(content)


HOWS = ("cut", "flipped", "empty")


def test_a_damaged_state_gives_way_to_the_one_before(trainings: Trainings) -> None:
    rare = {"val_every": 8, "checkpoint_minutes": 60}
    assert trainings.run("report", changes=rare) == 0
    whole, every_step = trainings.weights("report"), trainings.digests()
    for how in HOWS:
        assert trainings.stopped("report", signal.SIGTERM, 10, "step", changes=rare) == 5
        (folder,) = trainings.states.iterdir()
        trainings.digests()
        trainings.said()
        damage(folder / "state.safetensors", how)
        assert trainings.run("report", changes=rare) == 0
        said = trainings.said()
        assert "state.safetensors: damaged training state" in said
        assert "continuing from step 8, saved in previous.safetensors" in said
        assert trainings.digests() == every_step[8:]
        assert trainings.weights("report") == whole


def test_a_training_whose_states_are_all_damaged_never_starts_from_zero_unasked(
    trainings: Trainings,
) -> None:
    assert trainings.stopped("report", signal.SIGTERM, 10, "step") == 5
    (folder,) = trainings.states.iterdir()
    files = sorted(folder.iterdir())
    trainings.digests()
    for name in ("state.safetensors", "previous.safetensors"):
        for how in HOWS:
            damage(folder / name, how)
    trainings.said()
    assert trainings.run("report") == 3
    assert f"delete {folder} and run again to train from the start" in trainings.said()
    assert trainings.digests() == []
    assert sorted(folder.iterdir()) == files


def test_a_changed_number_starts_a_training_of_its_own(trainings: Trainings) -> None:
    assert trainings.stopped("seg", signal.SIGTERM, 10, "step") == 5
    (first,) = trainings.states.iterdir()
    trainings.digests()
    changes = {"batch_size": 1}
    assert trainings.stopped("seg", signal.SIGTERM, 5, "step", changes=changes) == 5
    assert len(trainings.digests()) == 5
    assert len(list(trainings.states.iterdir())) == 2
    assert trainings.run("seg") == 0
    assert len(trainings.digests()) == STEPS - 10
    assert first not in trainings.states.iterdir()


def test_a_full_disk_is_said_and_the_state_before_goes_on(trainings: Trainings) -> None:
    assert trainings.run("seg") == 0
    whole = trainings.weights("seg")
    assert trainings.stopped("seg", signal.SIGTERM, 10, "step") == 5
    trainings.digests()
    trainings.said()
    assert trainings.run("seg", file_limit=2**16) == 4
    assert "bytes of training state cannot be written (File too large); make room" in (
        trainings.said()
    )
    trainings.digests()
    assert trainings.run("seg") == 0
    assert len(trainings.digests()) == STEPS - 10
    assert trainings.weights("seg") == whole


def test_a_second_process_is_turned_away_while_the_first_one_lives(
    trainings: Trainings, chain: Chain
) -> None:
    with (
        trainings.held("seg", 3),
        pytest.raises(SetupError, match="another process is running train_seg"),
    ):
        chain.seg(**BY_NAME["seg"])
    assert len(trainings.digests()) == STEPS
