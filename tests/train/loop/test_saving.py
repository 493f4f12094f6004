"""Saving beside the training: what is on disk, when, and what a resumed run still owes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.train.loop.test_fit import (
    STEPS,
    Each,
    assert_same,
    batch,
    crash_at,
    network,
    terminate_at,
    weight_norm,
)
from uvlm.config import Params, TrainConfig
from uvlm.errors import Interrupted, SetupError
from uvlm.tracking import NullTracker
from uvlm.train.loop.fit import Scores, Task, Watch, fit
from uvlm.train.loop.launch import launch
from uvlm.train.loop.optim import build_optimizer
from uvlm.train.loop.resume import Best, ResumeFolder, Snapshot
from uvlm.train.losses.objectives import ClsObjective

OFTEN, RARELY = {"checkpoint_minutes": 0}, {"checkpoint_minutes": 60}


@pytest.fixture
def config(params: Params) -> TrainConfig:
    optim = params.train_cls.optim.model_copy(update={"lr": 0.05, "warmup_steps": 2})
    changes = {"steps": STEPS, "val_every": 3, "accumulate": 2, "optim": optim}
    return params.train_cls.model_copy(update=changes)


def train(
    config: TrainConfig,
    progress: Each | None = None,
    validate: Callable[[nn.Module], Scores] = weight_norm,
    folder: type[ResumeFolder] = ResumeFolder,
    seed: int = 0,
) -> Best:
    model = network(seed)
    task = Task(ClsObjective(), batch, validate, seed=7)
    with folder("train_cls", "saving") as state:
        watch = Watch(NullTracker(), progress, state)
        return fit(launch(), model, build_optimizer(model, config.optim), task, config, watch)


class Validations:
    """Remembers the score of each validation, the one numbered `dies` left unfinished."""

    def __init__(self, dies: int = 0) -> None:
        self.dies, self.scores = dies, list[float]()

    def __call__(self, model: nn.Module) -> Scores:
        scores = weight_norm(model)
        self.dies -= 1
        if self.dies == 0:
            raise RuntimeError("no memory for so many volumes")
        self.scores.append(scores.score)
        return scores


@pytest.mark.parametrize("ema_decay", [0.0, 0.4])
@pytest.mark.parametrize(("dies", "step"), [(1, 3), (2, STEPS)])
def test_a_validation_that_dies_is_made_up_for_without_repeating_a_step(
    config: TrainConfig,
    dies: int,
    step: int,
    ema_decay: float,
) -> None:
    config = config.model_copy(update={**RARELY, "ema_decay": ema_decay})
    once = Validations()
    whole = train(config, validate=once)
    before, after, steps = Validations(dies), Validations(), list[int]()
    with pytest.raises(RuntimeError, match="so many volumes"):
        train(config, validate=before)
    continued = train(config, Each(steps.append), after, seed=99)
    assert steps == list(range(step + 1, STEPS + 1))
    assert before.scores + after.scores == once.scores  # none left out, none twice
    assert_same(whole, continued)


@pytest.mark.parametrize("stop", [crash_at, terminate_at])
def test_a_finished_validation_is_not_repeated(
    config: TrainConfig,
    stop: Callable[[int], Each],
) -> None:
    config, once, twice = config.model_copy(update=RARELY), Validations(), Validations()
    train(config, validate=once)
    with pytest.raises((RuntimeError, Interrupted)):
        train(config, stop(4), twice)
    train(config, validate=twice, seed=99)
    assert twice.scores == once.scores


def test_a_run_killed_after_its_last_validation_only_hands_over_the_result(
    config: TrainConfig, tmp_path: Path
) -> None:
    class Kept(ResumeFolder):
        """As if killed before the model folder was written."""

        def __exit__(self, kind: object, *error: object) -> None:
            super().__exit__(KeyboardInterrupt, *error)

    whole, idle, steps = train(config, folder=Kept), Validations(), list[int]()
    assert list((tmp_path / ".uvlm" / "state").rglob("state.safetensors"))
    assert_same(whole, train(config, Each(steps.append), idle, seed=99))
    assert (idle.scores, steps) == ([], [])


def test_training_goes_on_while_a_state_is_written_and_the_state_does_not_change(
    config: TrainConfig,
) -> None:
    """Steps 2 and 3 are taken while step 1 is being written; a crash then continues from step 1."""
    config = config.model_copy(update={"checkpoint_minutes": 1e-9, "val_every": STEPS})
    whole = train(config)
    go_on, written = threading.Event(), list[int]()

    class Slow(ResumeFolder):
        def write(self, snapshot: Snapshot) -> None:
            assert go_on.wait(timeout=30)
            written.append(snapshot.header["step"])
            super().write(snapshot)

    def at_step_3(step: int) -> None:
        if step == 3:
            assert written == []
            go_on.set()
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train(config, Each(at_step_3), folder=Slow)
    assert written == [1]
    steps: list[int] = []
    assert_same(whole, train(config, Each(steps.append), seed=99))
    assert steps[0] == 2


@pytest.mark.parametrize("changes", [OFTEN, RARELY])
def test_a_state_that_cannot_be_written_ends_the_training_and_leaves_the_one_before(
    config: TrainConfig,
    changes: dict[str, float],
    tmp_path: Path,
) -> None:
    config = config.model_copy(update={**changes, "val_every": 2})
    whole = train(config)
    states = tmp_path / ".uvlm" / "state"

    def block(step: int) -> None:
        if step == 4:
            (folder,) = states.iterdir()
            while not (folder / "next.safetensors").is_dir():
                with suppress(FileExistsError):  # while the state before is being written
                    (folder / "next.safetensors").mkdir()

    with pytest.raises(SetupError, match=r"training state cannot be written \(Is a directory\)"):
        train(config, Each(block))
    (folder,) = states.iterdir()
    (folder / "next.safetensors").rmdir()
    steps: list[int] = []
    assert_same(whole, train(config, Each(steps.append), seed=99))
    assert 3 <= steps[0] <= 4


def test_a_signal_waits_until_its_state_is_on_disk(
    config: TrainConfig,
    tmp_path: Path,
) -> None:
    config = config.model_copy(update=RARELY)
    with pytest.raises(Interrupted, match="SIGTERM after step 2"):
        train(config, terminate_at(2))
    (path,) = (tmp_path / ".uvlm" / "state").rglob("*.safetensors")
    assert path.name == "state.safetensors"
    with ResumeFolder("train_cls", "saving") as state:
        model = network(99)
        assert state.load(model, torch.optim.SGD(model.parameters())).step == 2
