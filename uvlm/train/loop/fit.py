"""The one training loop: fit a model to an objective, keep the best validation, stop and resume.

A step takes J = accumulate x processes batches. Batch j of step s has number s * J + j, and
everything random in it is a function of (seed, s, j), so two processes do exactly what one process
does with twice the accumulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from uvlm.config import TrainConfig
from uvlm.errors import ConfigError, Interrupted
from uvlm.processes import place
from uvlm.read_ahead import read_ahead
from uvlm.seeding import generator
from uvlm.tracking import Progress, Tracker
from uvlm.train.loop.ema import Ema
from uvlm.train.loop.faults import Measured, fault, is_finite
from uvlm.train.loop.interrupts import Signals
from uvlm.train.loop.memory import Step, out_of_memory_explained
from uvlm.train.loop.optim import set_learning_rate
from uvlm.train.loop.resume import Best, ResumeFolder
from uvlm.train.loop.saving import Saver
from uvlm.train.loop.sharding import gathered, whole_copy, whole_weights
from uvlm.train.loop.waiting import Waiting, with_share
from uvlm.train.losses.objectives import Objective

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Scores(NamedTuple):
    """A validation: the score that picks the best step (higher wins), what to log, what to keep."""

    score: float
    metrics: dict[str, float]
    kept: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Task:
    """What is learned: the loss, the batches by number, the validation, and the seed.

    `finish` does on the device what `batches`, in another process, left for it.
    """

    objective: Objective
    batches: Callable[[int], Any]
    validate: Callable[[nn.Module], Scores]
    seed: int
    finish: Callable[[Any], Any] = lambda batch: batch

    def batch(self, number: int, fabric: Fabric | None = None) -> Any:
        """Make a batch again, where `fabric` trains or on the CPU."""
        prepared = self.batches(number)
        return self.finish(prepared if fabric is None else fabric.to_device(prepared))


@dataclass(frozen=True, eq=False)
class Watch:
    """Where a training logs, shows progress and keeps its state; `prefix` starts logged names."""

    tracker: Tracker
    progress: Progress | None
    resume: ResumeFolder
    prefix: str = ""

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Log under prefixed names, from the first process only."""
        if place().is_first:
            self.tracker.log({f"{self.prefix}{name}": v for name, v in metrics.items()}, step)

    def show(self, step: int, total: int, loss: float) -> None:
        """Move the progress bar, if there is one."""
        if self.progress is not None:
            self.progress.update(step, total, loss)


def fit(
    fabric: Fabric,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    task: Task,
    config: TrainConfig,
    watch: Watch,
    initial: Best | None = None,
) -> Best:
    """Train for `config.steps` steps, continuing an interrupted run; return the best weights.

    Everything random is a function of (seed, step): a run that was stopped anywhere and continued
    ends with the same weights as one that was not. `initial` is the score to beat.

    Raises:
        Interrupted: SIGTERM or SIGUSR1 arrived; the state was saved first.
        SetupError: out of memory; its details list what uses it.
        UvlmError: a loss or gradient is not finite; the message names the cases.
    """
    stage = watch.resume.stage
    needs = Step(stage, fabric, model, optimizer, task.objective, lambda: task.batch(0))
    with (
        out_of_memory_explained(needs),
        Signals(fabric) as signals,
        Saver(watch.resume, fabric, model, optimizer, config.checkpoint_minutes) as saver,
    ):
        network: Any = fabric.setup_module(model)
        stepper: Any = fabric.setup_optimizers(optimizer)
        start, best, is_validated = saver.load()
        best, ema = best or initial, Ema(optimizer, config.ema_decay)
        validated = partial(_validate, fabric, model, task, watch, ema, saver)
        best = best if is_validated else validated(start, best)
        model.train()  # pretrained parts arrive in evaluation mode, without dropout
        batches, window = _stream(fabric, task, config, start), list[dict[str, float]]()
        for step in range(start, config.steps):
            lr = config.optim.lr * set_learning_rate(optimizer, step, config.steps, config.optim)
            measured = _backward(fabric, network, task, config.accumulate, step, batches)
            grad_norm = _clip(fabric, network, stepper, config.optim.clip_norm)
            _check_finite(fabric, task, watch, saver, step, best, measured, grad_norm)
            stepper.step()
            stepper.zero_grad(set_to_none=True)
            ema.update(step)
            done, is_last = step + 1, step + 1 == config.steps
            terms = _mean(m.values for m in measured)
            window.append(terms | batches.step_ended() | {"grad_norm": grad_norm, "lr": lr})
            watch.show(done, config.steps, terms["loss"])
            if is_last or done % config.log_every == 0:
                watch.log(with_share(_emptied(window, fabric)), done)
            if is_last or done % config.val_every == 0:
                best = validated(done, best)
            stopped_by = signals.agreed()
            if saver.is_due() or stopped_by:
                saver.save(done, best)
            if stopped_by:
                saver.wait()
                raise _interrupted(stage, stopped_by, done, config.steps)
    if best is None:
        raise ConfigError(stage, "cannot train for 0 steps", "use 1 or more")
    return best


def _interrupted(stage: str, by: str, done: int, steps: int) -> Interrupted:
    fact = f"stopped by {by} after step {done} of {steps}"
    return Interrupted(stage, fact, "run the same command to continue")


def _backward(
    fabric: Fabric, network: Any, task: Task, accumulate: int, step: int, batches: Waiting
) -> list[Measured]:
    """Accumulate the mean gradient of this step's batches in the model; return their losses."""
    measured = []
    for micro in range(accumulate):
        number, prepared = next(batches)
        batch: Any = task.finish(fabric.to_device(prepared))
        _seed_torch(task, step, micro * fabric.world_size + fabric.global_rank)
        # Gradients are averaged over the processes once a step, with the last micro-batch.
        with fabric.no_backward_sync(network, enabled=micro + 1 < accumulate):
            terms = task.objective.loss(network, batch)
            loss = torch.stack(list(terms.values())).sum()
            fabric.backward(loss / accumulate)
        values = {name: float(term.detach()) for name, term in {**terms, "loss": loss}.items()}
        measured.append(Measured(number, batch.case_ids, values))
    return measured


def _clip(fabric: Fabric, network: Any, stepper: Any, max_norm: float) -> float:
    """Clip the gradient to `max_norm`; return its norm before."""
    norm: Any = fabric.clip_gradients(network, stepper, max_norm=max_norm, error_if_nonfinite=False)
    return float(whole_copy(norm))


def _check_finite(
    fabric: Fabric,
    task: Task,
    watch: Watch,
    saver: Saver,
    step: int,
    best: Best | None,
    measured: list[Measured],
    grad_norm: float,
) -> None:
    """Save what went before a loss or gradient that is not finite, and name the cases."""
    # All processes must be fine: were one to stop alone, the others would wait forever.
    if fabric.strategy.reduce_boolean_decision(is_finite(measured, grad_norm)):
        return
    saver.save(step, best)
    state, everyones = watch.resume, _of_every_process(fabric, measured)
    again = partial(task.batch, fabric=fabric)
    raise fault(state.folder, state.stage, step, everyones, grad_norm, again)


def _validate(
    fabric: Fabric,
    model: nn.Module,
    task: Task,
    watch: Watch,
    ema: Ema,
    saver: Saver,
    step: int,
    best: Best | None,
) -> Best:
    """Validate on the first process, and save before and after; on a tie the later step wins."""
    # A validation that dies, of memory or time, must not cost the steps since the last save.
    saver.save(step, best, is_validated=False)
    scores = Scores(-math.inf, {})
    with ema.applied():
        with gathered(model):
            if fabric.is_global_zero:
                # Not `network`: the forward pass of DDP would wait for the other processes.
                model.eval()
                with torch.no_grad(), fabric.autocast():
                    scores = task.validate(model)
                model.train()
                watch.log(scores.metrics, step)
        score, metrics, kept = fabric.broadcast((scores.score, scores.metrics, dict(scores.kept)))
        if best is None or best.score <= score:
            best = Best(step, score, {**metrics, **kept}, whole_weights(model))
    saver.save(step, best)
    return best


def _stream(fabric: Fabric, task: Task, config: TrainConfig, start: int) -> Waiting:
    """Yield this process's batches with their numbers, from step `start` on."""
    per_step = config.accumulate * fabric.world_size
    first = start * per_step + fabric.global_rank
    numbers = range(first, config.steps * per_step, fabric.world_size)
    ahead = read_ahead(task.batches, numbers, fabric.device)
    return Waiting(zip(numbers, ahead, strict=True))


def _seed_torch(task: Task, step: int, batch: int) -> None:
    """Make dropout depend only on the seed, the step and the batch's place in it."""
    rng = generator(task.seed, "torch", task.objective.name, step, batch)
    torch.manual_seed(int(rng.integers(2**63 - 1)))


def _mean(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Average each value by name; every row has the same names."""
    listed = list(rows)
    return {name: sum(row[name] for row in listed) / len(listed) for name in listed[0]}


def _emptied(window: list[dict[str, float]], fabric: Fabric) -> dict[str, float]:
    """Average over steps and processes what was logged since the last call, and forget it."""
    means = _mean(window)
    window.clear()
    if fabric.world_size == 1:
        return means
    numbers = torch.tensor(list(means.values()), device=fabric.device)
    reduced: Any = fabric.all_reduce(numbers, reduce_op="mean")
    return dict(zip(means, reduced.tolist(), strict=True))


def _of_every_process(fabric: Fabric, measured: list[Measured]) -> list[Measured]:
    """Collect what all processes measured, in the order of the batches' numbers."""
    if fabric.world_size == 1:
        return measured
    lists: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(lists, measured)
    return [m for turn in zip(*lists, strict=True) for m in turn]
