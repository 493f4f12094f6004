"""The one training loop: fit a model to an objective, keep the best validation, stop and resume."""

from __future__ import annotations

import json
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType, MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import nn

from uvlm.config import TrainConfig
from uvlm.errors import ConfigError, Interrupted, UvlmError
from uvlm.seeding import generator
from uvlm.store import write_text_atomic
from uvlm.tracking import Progress, Tracker
from uvlm.train.batches import iterate, loader_workers
from uvlm.train.ema import Ema
from uvlm.train.objectives import Objective
from uvlm.train.optim import set_learning_rate
from uvlm.train.resume import Best, ResumeFolder, snapshot

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
        """Log under prefixed names."""
        self.tracker.log({f"{self.prefix}{name}": v for name, v in metrics.items()}, step)


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
        UvlmError: a loss or gradient is not finite; the message names the cases.
    """
    wrapped, wrapped_optimizer = fabric.setup(model, optimizer)
    start, best = watch.resume.load(model, optimizer)
    best = best or initial
    ema = Ema(optimizer, config.ema_decay)
    stream = _stream(fabric, task, config, start)
    window = _Window()
    with _Signals() as signals:
        for step in range(start, config.steps):
            _seed_torch(task.seed, task.objective.name, step, fabric.global_rank)
            factor = set_learning_rate(optimizer, step, config.steps, config.optim)
            terms = _step(fabric, wrapped, wrapped_optimizer, task.objective, stream, config, watch)
            ema.update(step)
            window.add({**terms, "lr": factor * config.optim.lr})
            done = step + 1
            is_last = done == config.steps
            if watch.progress is not None:
                watch.progress.update(done, config.steps, terms["loss"])
            if is_last or done % config.log_every == 0:
                watch.log(window.means(), done)
            if is_last or done % config.val_every == 0:
                with ema.applied():
                    best = _validate(fabric, model, task, watch, done, best)
            if signals.received or done % config.checkpoint_every == 0:
                _checkpoint(fabric, model, optimizer, watch, done, best)
            if signals.received:
                fact = f"stopped by {signals.received} after step {done} of {config.steps}"
                raise Interrupted(watch.resume.stage, fact, "run the same command to continue")
    if best is None:
        raise ConfigError(watch.resume.stage, "0 steps cannot be trained", "use 1 or more")
    return best


def _step(
    fabric: Fabric,
    model: Any,
    optimizer: Any,
    objective: Objective,
    stream: Iterator[Any],
    config: TrainConfig,
    watch: Watch,
) -> dict[str, float]:
    """Take one step over `accumulate` batches; returns mean terms, their sum, the gradient norm."""
    window = _Window()
    case_ids: list[str] = []
    for micro in range(config.accumulate):
        batch = fabric.to_device(next(stream))
        case_ids += batch.case_ids
        with fabric.no_backward_sync(model, enabled=micro + 1 < config.accumulate):
            terms = objective.loss(model, batch)
            loss = torch.stack(list(terms.values())).sum()
            values = {name: float(term.detach()) for name, term in terms.items()}
            values["loss"] = float(loss.detach())
            _check_finite(values, case_ids, watch.resume)
            fabric.backward(loss / config.accumulate)
        window.add(values)
    norm: Any = fabric.clip_gradients(
        model, optimizer, max_norm=config.optim.clip_norm, error_if_nonfinite=False
    )
    means = {**window.means(), "grad_norm": float(norm)}
    _check_finite(means, case_ids, watch.resume)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return means


def _validate(
    fabric: Fabric, model: nn.Module, task: Task, watch: Watch, step: int, best: Best | None
) -> Best:
    """Validate on the first process; a tie goes to the later step."""
    scores = Scores(-math.inf, {})
    if fabric.is_global_zero:
        model.eval()
        with torch.no_grad(), fabric.autocast():
            scores = task.validate(model)
        model.train()
        watch.log(scores.metrics, step)
    fabric.barrier()
    if best is not None and best.score > scores.score:
        return best
    return Best(step, scores.score, {**scores.metrics, **scores.kept}, snapshot(model))


def _checkpoint(
    fabric: Fabric,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    watch: Watch,
    step: int,
    best: Best | None,
) -> None:
    if fabric.is_global_zero:
        watch.resume.save(model, optimizer, step, best)
    fabric.barrier()


def _stream(fabric: Fabric, task: Task, config: TrainConfig, start: int) -> Iterator[Any]:
    """Yield the batches of this process from step `start` on."""
    per_step = config.accumulate * fabric.world_size
    first = start * per_step + fabric.global_rank
    numbers = range(first, config.steps * per_step, fabric.world_size)
    return iterate(task.batches, numbers, loader_workers(fabric.device.type))


def _check_finite(values: dict[str, float], case_ids: list[str], resume: ResumeFolder) -> None:
    bad = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
    if bad:
        path = resume.folder / "bad_batch.json"
        write_text_atomic(path, json.dumps({"case_ids": case_ids, "values": bad}, indent=1) + "\n")
        raise UvlmError(
            resume.stage,
            f"{', '.join(bad)} on cases {', '.join(dict.fromkeys(case_ids))}",
            f"look at these cases ({path}) or lower the learning rate",
        )


def _seed_torch(seed: int, *keys: str | int) -> None:
    """Dropout of this step depends on (seed, step) only."""
    torch.manual_seed(int(generator(seed, "torch", *keys).integers(2**63 - 1)))


class _Window:
    """Means of what was added since the last look."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def means(self) -> dict[str, float]:
        means = {name: total / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        return means


class _Signals:
    """Remembers SIGTERM or SIGUSR1 instead of dying from it; outside the main thread, nothing."""

    def __init__(self) -> None:
        self.received = ""
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR1):
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name
