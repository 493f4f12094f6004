"""The moving average against one kept by hand, where it is used, and after an interruption."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.train.loop.test_fit import STEPS, Each, batch, network
from uvlm.config import OptimConfig, Params, TrainConfig
from uvlm.errors import Interrupted
from uvlm.tracking import NullTracker
from uvlm.train.loop.ema import Ema
from uvlm.train.loop.fit import Scores, Task, Watch, fit
from uvlm.train.loop.launch import launch
from uvlm.train.loop.optim import build_optimizer
from uvlm.train.loop.resume import Best, ResumeFolder
from uvlm.train.losses.objectives import ClsObjective

DECAY = 0.4  # above the warm-up's (1 + step) / (10 + step) in the first steps only


@pytest.fixture(params=["adamw", "sgd"])
def config(params: Params, request: pytest.FixtureRequest) -> TrainConfig:
    optim = params.train_cls.optim.model_copy(
        update={"optimizer": request.param, "lr": 0.05, "warmup_steps": 2}
    )
    changes = {"steps": STEPS, "checkpoint_minutes": 0, "val_every": STEPS, "ema_decay": DECAY}
    return params.train_cls.model_copy(update={**changes, "optim": optim})


def train(
    config: TrainConfig, after_step: Callable[[int, nn.Module], None] | None = None
) -> tuple[Best, nn.Module, list[dict[str, Tensor]]]:
    """The best weights, the network as training leaves it, and what validations saw."""
    model = network(0)
    validated: list[dict[str, Tensor]] = []

    def validate(seen: nn.Module) -> Scores:
        validated.append({name: p.detach().clone() for name, p in seen.named_parameters()})
        return Scores(0.0, {})

    progress = Each(lambda step: after_step(step, model) if after_step else None)
    task = Task(ClsObjective(), batch, validate, seed=7)
    with ResumeFolder("train_cls", "ema") as state:
        watch = Watch(NullTracker(), progress, state)
        optimizer = build_optimizer(model, config.optim)
        return fit(launch(), model, optimizer, task, config, watch), model, validated


def test_validation_and_what_is_kept_use_the_average_and_training_does_not(
    config: TrainConfig,
) -> None:
    history: list[dict[str, Tensor]] = []

    def remember(step: int, model: nn.Module) -> None:
        history.append({name: p.detach().double() for name, p in model.named_parameters()})

    best, model, validated = train(config, remember)
    average = history[0]
    for step, weights in enumerate(history[1:], start=1):
        decay = min(DECAY, (1 + step) / (10 + step))
        average = {n: decay * average[n] + (1 - decay) * weights[n] for n in average}
    assert len(validated) == 1
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(validated[0][name].double(), average[name], rtol=1e-5, atol=1e-7)
        assert torch.equal(best.weights[name], validated[0][name])
        assert torch.equal(parameter.double(), history[-1][name])
        assert not torch.equal(parameter, validated[0][name])
    without, plain, _ = train(config.model_copy(update={"ema_decay": 0.0}))
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter.double(), history[-1][name])
        assert torch.equal(without.weights[name], parameter)


@pytest.mark.parametrize("stop", [1, 3])
def test_an_interrupted_run_keeps_its_average(config: TrainConfig, stop: int) -> None:
    import os
    import signal

    def terminate(step: int, model: nn.Module) -> None:
        if step == stop:
            os.kill(os.getpid(), signal.SIGTERM)

    whole, _, _ = train(config)
    with pytest.raises(Interrupted):
        train(config, terminate)
    continued, _, _ = train(config)
    for name, weights in whole.weights.items():
        assert torch.equal(continued.weights[name], weights)


def test_frozen_weights_have_no_average_and_are_not_touched(params: Params) -> None:
    model: Any = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    optim: OptimConfig = params.train_cls.optim
    optimizer = build_optimizer(model, optim)
    ema = Ema(optimizer, 0.9)
    for step in range(3):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        ema.update(step)
    trained = model[1].weight.clone()
    with ema.applied():
        assert not torch.equal(model[1].weight, trained)
        assert torch.equal(model[0].weight, before)
    assert torch.equal(model[1].weight, trained)
    assert model[0].weight not in optimizer.state
