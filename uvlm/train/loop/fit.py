"""The one training loop: fit a model to an objective, keep the best validation, stop and resume.

Batch j of step s, of J = accumulate x processes in a step, is number s * J + j, and all that is
random in it is a function of (seed, s, j). Two processes therefore do what one with twice the
accumulation does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from uvlm.config import TrainConfig
from uvlm.errors import ConfigError, Interrupted
from uvlm.processes import place
from uvlm.seeding import generator
from uvlm.tracking import Progress, Tracker
from uvlm.train.batches import iterate, loader_workers
from uvlm.train.loop.agreement import everywhere, mean_over_processes, of_every_process
from uvlm.train.loop.ema import Ema
from uvlm.train.loop.faults import Measured, fault, is_finite
from uvlm.train.loop.interrupts import Signals
from uvlm.train.loop.memory import Step, out_of_memory_explained
from uvlm.train.loop.optim import set_learning_rate
from uvlm.train.loop.resume import Best, ResumeFolder, snapshot
from uvlm.train.loop.sharding import gathered, whole_copy
from uvlm.train.losses.objectives import Objective

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Scores(NamedTuple):
    """A validation: what chooses the best step (higher is better), what is logged, what is kept."""

    score: float
    metrics: dict[str, float]
    kept: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Task:
    """What is learned: a loss, the batches by number, a validation, the seed of it all."""

    objective: Objective
    batches: Callable[[int], Any]
    validate: Callable[[nn.Module], Scores]
    seed: int


@dataclass(frozen=True, eq=False)
class Watch:
    """What surrounds a training: log, progress bar, state folder; `prefix` of logged names."""

    tracker: Tracker
    progress: Progress | None
    resume: ResumeFolder
    prefix: str = ""

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Log under prefixed names, on the first process."""
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
    """Train for `config.steps` steps, continuing an interrupted run, and return the best weights.

    Everything random is a function of (seed, step): a run stopped anywhere and continued gives the
    same weights as one that was not. `initial` is what the best step has to reach.

    Raises:
        Interrupted: SIGTERM or SIGUSR1 came; the state was saved first.
        SetupError: out of memory; its details say what uses it.
        UvlmError: a loss or gradient is not finite; the message names the cases.
    """
    state, stage = watch.resume, watch.resume.stage
    needs = Step(stage, fabric, model, optimizer, task.objective, lambda: task.batches(0))
    with out_of_memory_explained(needs), Signals(fabric) as signals:
        network: Any = fabric.setup_module(model)
        stepper: Any = fabric.setup_optimizers(optimizer)
        start, best = state.load(model, optimizer)
        best = best or initial
        ema = Ema(optimizer, config.ema_decay)
        model.train()  # pretrained parts come ready for evaluation, without dropout
        batches, window = _stream(fabric, task, config, start), _Window(fabric)
        for step in range(start, config.steps):
            factor = set_learning_rate(optimizer, step, config.steps, config.optim)
            measured = _backward(fabric, network, task, config, step, batches)
            grad_norm = _clip(fabric, network, stepper, config.optim.clip_norm)
            if not everywhere(fabric, is_finite(measured, grad_norm)):
                state.save(model, optimizer, step, best)
                everyones = of_every_process(fabric, measured)
                raise fault(state.folder, stage, step, everyones, grad_norm, task.batches)
            stepper.step()
            stepper.zero_grad(set_to_none=True)
            ema.update(step)
            done, is_last = step + 1, step + 1 == config.steps
            terms = _mean(m.values for m in measured)
            window.add({**terms, "grad_norm": grad_norm, "lr": factor * config.optim.lr})
            watch.show(done, config.steps, terms["loss"])
            if is_last or done % config.log_every == 0:
                watch.log(window.means(), done)
            if is_last or done % config.val_every == 0:
                with ema.applied():
                    best = _validate(fabric, model, task, watch, done, best)
            stopped_by = signals.agreed()
            if stopped_by or done % config.checkpoint_every == 0:
                state.save(model, optimizer, done, best)
            if stopped_by:
                fact = f"stopped by {stopped_by} after step {done} of {config.steps}"
                raise Interrupted(stage, fact, "run the same command to continue")
    if best is None:
        raise ConfigError(stage, "0 steps cannot be trained", "use 1 or more")
    return best


def _backward(
    fabric: Fabric,
    network: Any,
    task: Task,
    config: TrainConfig,
    step: int,
    batches: Iterator[tuple[int, Any]],
) -> list[Measured]:
    """Put the mean gradient of this step's batches into the model; returns their loss terms."""
    measured = []
    for micro in range(config.accumulate):
        number, batch = next(batches)
        batch = fabric.to_device(batch)
        _seed_torch(task, step, micro * fabric.world_size + fabric.global_rank)
        with fabric.no_backward_sync(network, enabled=micro + 1 < config.accumulate):
            terms = task.objective.loss(network, batch)
            loss = torch.stack(list(terms.values())).sum()
            fabric.backward(loss / config.accumulate)
        values = {name: float(term.detach()) for name, term in {**terms, "loss": loss}.items()}
        measured.append(Measured(number, batch.case_ids, values))
    return measured


def _clip(fabric: Fabric, network: Any, stepper: Any, max_norm: float) -> float:
    """Shorten the gradient to `max_norm`; returns how long it was."""
    norm: Any = fabric.clip_gradients(network, stepper, max_norm=max_norm, error_if_nonfinite=False)
    return float(whole_copy(norm))


def _validate(
    fabric: Fabric, model: nn.Module, task: Task, watch: Watch, step: int, best: Best | None
) -> Best:
    """Validate on the first process; a tie goes to the later step."""
    scores = Scores(-math.inf, {})
    with gathered(model):
        if fabric.is_global_zero:
            model.eval()
            with torch.no_grad(), fabric.autocast():
                scores = task.validate(model)
            model.train()
            watch.log(scores.metrics, step)
    score, metrics, kept = fabric.broadcast((scores.score, scores.metrics, dict(scores.kept)))
    if best is not None and best.score > score:
        return best
    return Best(step, score, {**metrics, **kept}, snapshot(model))


def _stream(
    fabric: Fabric, task: Task, config: TrainConfig, start: int
) -> Iterator[tuple[int, Any]]:
    """Yield the batches of this process from step `start` on, with their numbers."""
    per_step = config.accumulate * fabric.world_size
    first = start * per_step + fabric.global_rank
    numbers = range(first, config.steps * per_step, fabric.world_size)
    return zip(
        numbers, iterate(task.batches, numbers, loader_workers(fabric.device.type)), strict=True
    )


def _seed_torch(task: Task, step: int, batch: int) -> None:
    """Dropout depends on the seed, the step and the batch's place in it."""
    rng = generator(task.seed, "torch", task.objective.name, step, batch)
    torch.manual_seed(int(rng.integers(2**63 - 1)))


def _mean(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each name; every row has the same ones."""
    listed = list(rows)
    return {name: sum(row[name] for row in listed) / len(listed) for name in listed[0]}


class _Window:
    """Means, over steps and processes, of what was added since the last look."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._rows: list[dict[str, float]] = []

    def add(self, values: dict[str, float]) -> None:
        self._rows.append(values)

    def means(self) -> dict[str, float]:
        means = _mean(self._rows)
        self._rows = []
        return mean_over_processes(self._fabric, means)
