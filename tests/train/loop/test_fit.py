"""The loop on a small network with dropout; what it must keep is bit for bit."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from uvlm.config import OptimConfig, Params, TrainConfig
from uvlm.errors import Interrupted, SetupError, UvlmError
from uvlm.seeding import torch_generator
from uvlm.tracking import JsonlTracker, NullTracker, Tracker, read_history
from uvlm.train.batches import ClsBatch
from uvlm.train.loop.fit import Scores, Task, Watch, fit
from uvlm.train.loop.launch import launch
from uvlm.train.loop.optim import build_optimizer
from uvlm.train.loop.resume import Best, ResumeFolder
from uvlm.train.loop.sharding import whole_weights
from uvlm.train.losses.objectives import ClsObjective

STEPS = 6


def network(seed: int, dropout: nn.Module | None = None) -> nn.Sequential:
    """A convolution with weights in another memory layout, dropout, a linear layer."""
    torch.manual_seed(seed)
    convolution = nn.Conv3d(2, 4, 3)
    weight = convolution.weight.data
    convolution.weight.data = weight.contiguous(memory_format=torch.channels_last_3d)
    dropped = dropout or nn.Dropout(0.5)
    return nn.Sequential(convolution, nn.LeakyReLU(), nn.Flatten(), dropped, nn.Linear(4 * 8, 3))


def batch(index: int) -> ClsBatch:
    generator = torch_generator(5, index)
    x = torch.randn(2, 2, 4, 4, 4, generator=generator)
    truth = (x.mean(dim=(2, 3, 4)).repeat(1, 2)[:, :3] > 0).float()
    return ClsBatch([f"case_{index}a", f"case_{index}b"], x, truth)


def weight_norm(model: nn.Module) -> Scores:
    """A score that rises while training moves the weights."""
    norm = float(torch.stack([p.square().sum() for p in model.parameters()]).sum())
    return Scores(norm, {"val_norm": norm})


@pytest.fixture(params=["adamw", "sgd"])
def config(params: Params, request: pytest.FixtureRequest) -> TrainConfig:
    return six_steps(params, request.param)


def six_steps(params: Params, optimizer: Literal["adamw", "sgd"]) -> TrainConfig:
    """Twelve batches, two validations."""
    optim = OptimConfig(
        optimizer=optimizer,
        lr=0.05,
        momentum=0.9,
        weight_decay=0.01,
        warmup_steps=2,
        schedule="cosine",
        clip_norm=1.0,
    )
    changes = {"steps": STEPS, "checkpoint_minutes": 0, "val_every": 3, "accumulate": 2}
    return params.train_cls.model_copy(update={**changes, "optim": optim})


@dataclass(frozen=True)
class Each:
    """Does something after every step."""

    action: Callable[[int], None]

    def update(self, step: int, total: int, loss: float | None = None) -> None:
        self.action(step)


def terminate_at(step: int) -> Each:
    def action(done: int) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return Each(action)


def crash_at(step: int) -> Each:
    def action(done: int) -> None:
        if done == step:
            raise RuntimeError("power cut")

    return Each(action)


def train(
    config: TrainConfig,
    seed: int = 0,
    progress: Each | None = None,
    batches: Callable[[int], ClsBatch] = batch,
    tracker: Tracker | None = None,
) -> Best:
    model = network(seed)
    task = Task(ClsObjective(), batches, weight_norm, seed=7)
    with ResumeFolder("train_cls", "test") as state:
        watch = Watch(tracker or NullTracker(), progress, state)
        return fit(launch(), model, build_optimizer(model, config.optim), task, config, watch)


def assert_same(one: Best, other: Best) -> None:
    assert (one.step, one.score, one.metrics) == (other.step, other.score, other.metrics)
    assert one.weights.keys() == other.weights.keys()
    for name, weights in one.weights.items():
        assert torch.equal(weights, other.weights[name]), name


@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_terminated_run_continues_to_the_same_bits(config: TrainConfig, step: int) -> None:
    whole = train(config)
    with pytest.raises(Interrupted, match=f"SIGTERM after step {step} of {STEPS}"):
        train(config, progress=terminate_at(step))
    assert_same(whole, train(config, seed=99))  # the seed of new weights must not matter


@pytest.mark.slow
@pytest.mark.parametrize(("step", "minutes", "goes_on"), [(3, 0, 3), (5, 0, 5), (5, 9, 4)])
def test_a_crashed_run_continues_from_its_last_save_to_the_same_bits(
    config: TrainConfig, step: int, minutes: float, goes_on: int
) -> None:
    """The last save is that of the step before, or that of the validation after step 3."""
    config = config.model_copy(update={"checkpoint_minutes": minutes})
    whole = train(config)
    with pytest.raises(RuntimeError, match="power cut"):
        train(config, progress=crash_at(step))
    continued: list[int] = []
    assert_same(whole, train(config, seed=99, progress=Each(continued.append)))
    assert continued[0] == goes_on


def test_success_removes_the_state_and_signals_work_as_before(
    config: TrainConfig, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    train(config)
    assert list((tmp_path / ".uvlm" / "state").iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_network_that_arrives_ready_for_evaluation_is_trained_with_dropout(
    config: TrainConfig,
) -> None:
    weights = []
    for arrives_training in (True, False):
        model = network(0).train(arrives_training)
        task = Task(ClsObjective(), batch, weight_norm, seed=7)
        with ResumeFolder("train_cls", "test") as state:
            watch = Watch(NullTracker(), None, state)
            optimizer = build_optimizer(model, config.optim)
            weights.append(fit(launch(), model, optimizer, task, config, watch).weights)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_dropout_differs_between_steps(config: TrainConfig) -> None:
    masks: set[tuple[bool, ...]] = set()

    class Watched(nn.Dropout):
        def forward(self, x: Tensor) -> Tensor:
            dropped: Tensor = super().forward(x)
            if self.training:
                masks.add(tuple((dropped == 0).flatten().tolist()))
            return dropped

    model = network(0, Watched(0.5))
    task = Task(ClsObjective(), lambda index: batch(0), weight_norm, seed=7)
    with ResumeFolder("train_cls", "test") as state:
        watch = Watch(NullTracker(), None, state)
        fit(launch(), model, build_optimizer(model, config.optim), task, config, watch)
    assert len(masks) == STEPS * config.accumulate


def poisoned(index: int) -> ClsBatch:
    """Batch 7, the second one of step 4, holds what is no number."""
    drawn = batch(index)
    return drawn._replace(x=drawn.x * float("nan")) if index == 7 else drawn


def test_a_loss_that_is_not_finite_names_the_cases_and_keeps_the_batch(
    config: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(
        UvlmError, match="loss is nan in step 4 on cases case_7a, case_7b;"
    ) as caught:
        train(config, batches=poisoned)
    assert caught.value.exit_code == 70
    (path,) = (tmp_path / ".uvlm" / "state").rglob("bad_batch.json")
    assert str(path) in str(caught.value)
    document = json.loads(path.read_text())
    assert document["step"] == 3
    assert document["case_ids"] == ["case_7a", "case_7b"]
    assert [kept["number"] for kept in document["batches"]] == [7]
    tensors = load_file(path.with_suffix(".safetensors"))
    assert torch.equal(tensors["7.abnormalities"], batch(7).abnormalities)
    again = ClsBatch(document["case_ids"], tensors["7.x"], tensors["7.abnormalities"])
    model = network(0)
    with ResumeFolder("train_cls", "test") as state, contextlib.suppress(ZeroDivisionError):
        step, _, _ = state.load(model, build_optimizer(model, config.optim))
        assert step == 3  # the weights are those that met the batch
        assert not ClsObjective().loss(model, again)["bce"].isfinite()
        raise ZeroDivisionError  # keeps the state


class _BadGradient(torch.autograd.Function):
    """Passes values on, and gradients of one batch as infinity."""

    @staticmethod
    def forward(context: Any, x: Tensor, is_bad: bool) -> Tensor:
        context.is_bad = is_bad
        return x.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * (float("inf") if context.is_bad else 1.0), None


def test_a_gradient_that_is_not_finite_suspects_every_batch_of_the_step(
    config: TrainConfig,
) -> None:
    class Objective(ClsObjective):
        def loss(self, model: nn.Module, batch: ClsBatch) -> dict[str, Tensor]:
            is_bad = batch.case_ids[0] == "case_5a"
            (bce,) = super().loss(model, batch).values()
            return {"bce": _BadGradient.apply(bce, is_bad)}  # type: ignore[no-untyped-call]

    model = network(0)
    before: list[dict[str, Tensor]] = []
    progress = Each(lambda step: before.append(whole_weights(model)))
    task = Task(Objective(), batch, weight_norm, seed=7)
    fact = r"grad_norm is (inf|nan) in step 3 on cases case_4a, case_4b, case_5a, case_5b"
    optimizer = build_optimizer(model, config.optim)
    with ResumeFolder("train_cls", "test") as state:
        watch = Watch(NullTracker(), progress, state)
        with pytest.raises(UvlmError, match=fact):
            fit(launch(), model, optimizer, task, config, watch)
        kept = load_file(state.folder / "bad_batch.safetensors")
    for name, weights in before[-1].items():
        assert torch.equal(weights, whole_weights(model)[name])  # the step was not taken
    assert torch.equal(kept["4.x"], batch(4).x)
    assert torch.equal(kept["5.x"], batch(5).x)


def test_the_best_validation_is_kept_and_a_tie_goes_to_the_later_step(
    config: TrainConfig,
) -> None:
    config = config.model_copy(update={"val_every": 1})
    scores = iter([0.1, 0.7, 0.3, 0.7, 0.2, 0.5])
    weights: list[dict[str, Tensor]] = []

    def validate(model: nn.Module) -> Scores:
        weights.append({name: p.clone() for name, p in model.named_parameters()})
        score = next(scores)
        return Scores(score, {"val": score}, {"threshold": len(weights)})

    model = network(0)
    task = Task(ClsObjective(), batch, validate, seed=7)
    with ResumeFolder("train_cls", "test") as state:
        watch = Watch(NullTracker(), None, state)
        best = fit(launch(), model, build_optimizer(model, config.optim), task, config, watch)
    assert (best.step, best.score, best.metrics) == (4, 0.7, {"val": 0.7, "threshold": 4})
    for name, expected in weights[3].items():
        assert torch.equal(best.weights[name], expected)


def test_logged_numbers_are_means_since_the_last_line(config: TrainConfig, tmp_path: Path) -> None:
    each, by_three = JsonlTracker(tmp_path / "1.jsonl"), JsonlTracker(tmp_path / "3.jsonl")
    train(config.model_copy(update={"log_every": 1}), tracker=each)
    train(config.model_copy(update={"log_every": 3}), tracker=by_three)
    single = [r["metrics"]["loss"] for r in read_history(each.path) if "loss" in r["metrics"]]
    means = {r["step"]: r["metrics"]["loss"] for r in read_history(by_three.path)
             if "loss" in r["metrics"]}  # fmt: skip
    assert means == pytest.approx({3: sum(single[:3]) / 3, 6: sum(single[3:]) / 3})


@pytest.mark.slow
def test_the_time_waited_for_data_is_logged_and_stays_out_of_the_table(
    config: TrainConfig, tmp_path: Path
) -> None:
    def slow(index: int) -> ClsBatch:
        time.sleep(0.03)
        return batch(index)

    def validate(model: nn.Module) -> Scores:
        time.sleep(0.5)
        return weight_norm(model)

    tracker = JsonlTracker(tmp_path / "history.jsonl")
    often = config.model_copy(update={"log_every": 1, "val_every": 1, "steps": 4})
    task = Task(ClsObjective(), slow, validate, seed=7)
    model = network(0)
    with ResumeFolder("train_cls", "test") as state:
        watch = Watch(tracker, None, state)
        fit(launch(), model, build_optimizer(model, often.optim), task, often, watch)
    rows = [r["metrics"] for r in read_history(tracker.path) if "wait_ms" in r.get("metrics", {})]
    assert len(rows) == 4
    for row in rows:
        assert row["step_ms"] >= row["wait_ms"] >= 2 * 30  # two batches accumulate
        assert row["wait_share"] == pytest.approx(row["wait_ms"] / row["step_ms"])
    # Validation is in no step; the first step imports.
    assert min(row["step_ms"] - row["wait_ms"] for row in rows) < 400
    tracker.write_csv(tmp_path / "history.csv")
    header = (tmp_path / "history.csv").read_text().splitlines()[0]
    assert "loss" in header
    assert not any(word in header for word in ("wait", "step_ms"))


def test_two_processes_cannot_train_the_same_thing() -> None:
    with (
        ResumeFolder("train_cls", "same"),
        pytest.raises(SetupError, match="another process"),
        ResumeFolder("train_cls", "same"),
    ):
        pass


def test_accumulated_batches_give_the_gradient_of_their_mean(config: TrainConfig) -> None:
    def halves(index: int) -> ClsBatch:
        drawn = batch(0)
        return ClsBatch(
            drawn.case_ids, drawn.x[index % 2, None], drawn.abnormalities[index % 2, None]
        )

    plain = config.model_copy(update={"steps": 1, "accumulate": 1})
    accumulated = config.model_copy(update={"steps": 1, "accumulate": 2})
    results = []
    for chosen, source in ((plain, lambda index: batch(0)), (accumulated, halves)):
        model = network(0, nn.Identity())
        task = Task(ClsObjective(), source, weight_norm, seed=7)
        with ResumeFolder("train_cls", "test") as state:
            watch = Watch(NullTracker(), None, state)
            best = fit(launch(), model, build_optimizer(model, chosen.optim), task, chosen, watch)
        results.append(best.weights)
    for name in results[0]:
        torch.testing.assert_close(results[0][name], results[1][name], atol=1e-5, rtol=1e-4)
