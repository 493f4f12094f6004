"""A loss or gradient that is not finite: say on which cases, keep their batches, stop.

    <state folder>/
        bad_batch.json           step, numbers of the batches, their cases, the values
        bad_batch.safetensors    the batches, <number of the batch>.<field>
        state.safetensors        weights and optimiser before the step

so that `load_file` and one forward pass show the fault again. Of several processes the first one
writes, also for the others.
"""

from __future__ import annotations

import json
import math
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from uvlm.errors import UvlmError
from uvlm.files import write_bytes_atomic, write_text_atomic
from uvlm.processes import place


@dataclass(frozen=True)
class Measured:
    """Loss terms of one batch."""

    number: int
    case_ids: Sequence[str]
    values: Mapping[str, float]

    @property
    def bad(self) -> list[str]:
        """What is not finite, in words."""
        return not_finite(self.values)


def not_finite(values: Mapping[str, float]) -> list[str]:
    """Say which of these numbers are not finite."""
    return [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]


def is_finite(measured: Sequence[Measured], grad_norm: float) -> bool:
    """Whether the losses of a step and the norm of its gradient are numbers to go on with."""
    return math.isfinite(grad_norm) and not any(m.bad for m in measured)


def fault(
    folder: Path,
    stage: str,
    step: int,
    measured: Sequence[Measured],
    grad_norm: float,
    batches: Callable[[int], Any],
) -> UvlmError:
    """Write the batches at fault into the state folder; returns the error that names them.

    A batch is a function of its number, so none had to be kept for this.

    With finite losses and a gradient that is not, every batch of the step is suspect.

    Args:
        folder: where to write.
        stage: what is being trained.
        step: number of the step, from 0.
        measured: the batches of all processes in this step.
        grad_norm: norm of the step's gradient.
        batches: gives a batch again by its number.
    """
    guilty = [m for m in measured if m.bad] or list(measured)
    facts = sorted({fact for m in guilty for fact in m.bad}) or not_finite({"grad_norm": grad_norm})
    case_ids = list(dict.fromkeys(case_id for m in guilty for case_id in m.case_ids))
    path = folder / "bad_batch.json"
    document = {
        "step": step,
        "case_ids": case_ids,
        "values": facts,
        "grad_norm": str(grad_norm),
        "batches": [
            {
                "number": m.number,
                "case_ids": list(m.case_ids),
                "terms": {name: str(value) for name, value in m.values.items()},
            }
            for m in guilty
        ],
    }
    if place().is_first:
        tensors = [_tensors(str(m.number), batches(m.number)) for m in guilty]
        _write_tensors(path.with_suffix(".safetensors"), dict(ChainMap(*tensors)))
        write_text_atomic(path, json.dumps(document, indent=1) + "\n")
    return UvlmError(
        stage,
        f"{', '.join(facts)} in step {step + 1} on cases {', '.join(case_ids)}",
        f"look at these cases ({path} and the batch beside it) or lower the learning rate",
    )


def _tensors(name: str, value: Any) -> dict[str, Tensor]:
    """Every tensor of a batch, by a dotted name."""
    if isinstance(value, Tensor):
        return {name: value.contiguous()}
    if hasattr(value, "_asdict"):
        parts = value._asdict().items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    else:
        return {}
    return {k: v for key, part in parts for k, v in _tensors(f"{name}.{key}", part).items()}


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save

    write_bytes_atomic(path, save({name: t.detach().cpu().clone() for name, t in tensors.items()}))
