"""How a profile is made smaller, and which network fits: from the phantoms' to the paper's.

A user's own data, a rehearsal and every other short run change a profile with these functions.

The largest size is taken whose every stage is estimated to fit the memory, and whose training is
estimated to end in time. Sizes are measured in memory by an imagined run, and in time by a real
step of the smallest one, from where time grows as the activations do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from uvlm.config import Params
from uvlm.errors import SetupError
from uvlm.estimates.check import compared
from uvlm.estimates.stages import Cts, Estimate, estimates
from uvlm.memory import Memory

_MIB: Final = 2**20
_SPARE: Final = 0.85  # of the memory: DVC runs beside a stage, and estimates are estimates
_FOR_TRAINING: Final = 0.4  # of the time: the rest is reading, writing and starting
_STAGES: Final = (
    "preprocess", "pseudo_label", "label_maps", "train_cls", "encode", "train_report", "generate",
    "evaluate",
)  # fmt: skip


def _size(
    grid: Sequence[int], channels: Sequence[int], strides: Sequence[int], width: int
) -> dict[str, Any]:
    """Write the sections that set the size of the networks."""
    encoder = {"channels": [*channels], "strides": [*strides], "blocks": [1, 1, 1, 1, 1, 1]}
    return {
        "preprocess": {"grid": [*grid]},
        "encoder": encoder,
        "decoder": {"width": width, "heads": max(4, width // 64), "ffn": 4 * width},
        "train_seg": {"patch": [*grid]},  # reads whole volumes
    }


LADDER: Final[tuple[dict[str, Any], ...]] = (
    _size((32, 48, 48), (16, 32, 48, 64, 96, 96), (1, 2, 2, 2, 1, 1), 64),
    _size((48, 64, 64), (16, 32, 48, 64, 96, 96), (1, 2, 2, 2, 2, 1), 128),
    _size((64, 96, 96), (16, 32, 64, 96, 128, 128), (1, 2, 2, 2, 2, 1), 128),
    _size((96, 128, 128), (16, 32, 64, 128, 192, 192), (1, 2, 2, 2, 2, 2), 256),
    _size((128, 192, 192), (32, 64, 128, 256, 320, 320), (1, 2, 2, 2, 2, 2), 512),
    _size((192, 256, 256), (32, 64, 128, 256, 320, 320), (1, 2, 2, 2, 2, 2), 512),
)


def merged(one: Mapping[str, Any], *others: Mapping[str, Any]) -> dict[str, Any]:
    """Let what comes later win, key by key."""
    result = dict(one)
    for key, value in (item for other in others for item in other.items()):
        is_section = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if is_section else value
    return result


def short_training(steps: int, every: int) -> dict[str, int]:
    """End a training after so many steps; validate `every` so many, save every two minutes."""
    return {"steps": steps, "log_every": every, "val_every": every, "checkpoint_minutes": 2}


@dataclass(frozen=True)
class Fit:
    """A size that fits: the parameters that it makes, and the estimate of every stage."""

    size: Mapping[str, Any]
    params: Params
    stages: Sequence[Estimate]
    minutes: float


def largest_that_fits(
    compose: Callable[[Mapping[str, Any]], Params], cts: Cts, memory: Memory, minutes: float
) -> Fit:
    """Climb the ladder while memory and time allow.

    Raises:
        SetupError: not even the smallest size fits.
    """
    best, rate = None, 0.0
    for size in LADDER:
        params = compose(size)
        stages = estimates(params, cts, _STAGES)
        rate = rate or _seconds_per_byte(params, stages)
        fit = Fit(size, params, stages, _training_bytes(params, stages) * rate / 60)
        if too_large := [each for each in stages if not _fits(each, memory)]:
            _refuse_if_first(best, too_large, memory)
            break
        if best is not None and fit.minutes > _FOR_TRAINING * minutes:
            break
        best = fit
    assert best is not None
    return best


def table(stages: Sequence[Estimate]) -> str:
    """Write the estimate of every stage as lines of MiB."""
    lines = [f"{'stage':<14}{'MiB':>9}   estimated peak, most of it"]
    for each in stages:
        name, (size, note) = max(each.sizes.items(), key=lambda item: item[1][0])
        what = f"{name} {size / _MIB:,.0f}" + (f" ({note})" if note else "")
        lines.append(f"{each.stage:<14}{each.total / _MIB:>9,.0f}   {what}")
    return "\n".join(lines)


def _fits(each: Estimate, memory: Memory) -> bool:
    """Tell whether a stage leaves something of the memory to others."""
    needed, there = compared(each, memory)
    return needed <= _SPARE * there.num_bytes


def _refuse_if_first(best: Fit | None, too_large: Sequence[Estimate], memory: Memory) -> None:
    """Refuse a computer for which there is no size."""
    if best is not None:
        return
    needed, there = max((compared(each, memory) for each in too_large), key=lambda pair: pair[0])
    have, want = there.num_bytes / _MIB, needed / _SPARE / _MIB
    fact = f"{have:,.0f} MiB ({there.said_by}) are too little, about {want:,.0f} are needed"
    error = SetupError("memory", fact, "close other programs, or use a larger computer")
    error.details = table(too_large)
    raise error


def _seconds_per_byte(params: Params, stages: Sequence[Estimate]) -> float:
    """Time the second step of a real training of stage 2."""
    import torch

    from uvlm.device import choose_device, set_threads
    from uvlm.estimates.networks import cls_training

    set_threads()
    training, device = cls_training(params), choose_device()
    training.model.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    training.step(device)
    start = time.perf_counter()
    training.step(device)
    return (time.perf_counter() - start) / _activations("train_cls", stages)


def _training_bytes(params: Params, stages: Sequence[Estimate]) -> int:
    """Add up the activations of all steps of stages 2 and 3."""
    cls, report = params.train_cls.steps, params.train_report.steps
    return cls * _activations("train_cls", stages) + report * _activations("train_report", stages)


def _activations(stage: str, stages: Sequence[Estimate]) -> int:
    return next(each.sizes["activations"][0] for each in stages if each.stage == stage)
