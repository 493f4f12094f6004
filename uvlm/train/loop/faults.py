"""A loss or gradient that is not finite: name the cases, keep their batches, stop.

    <state folder>/
        bad_batch.json           step, numbers of the batches, their cases, the values
        bad_batch.safetensors    the batches, <number of the batch>.<field>
        state.safetensors        weights and optimiser before the step

With these, `load_file` and one forward pass reproduce the fault. The first process writes for all.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from uvlm.errors import UvlmError
from uvlm.files import write_bytes_atomic, write_json_atomic
from uvlm.processes import place


@dataclass(frozen=True)
class Measured:
    """Loss terms of one batch."""

    number: int
    case_ids: Sequence[str]
    values: Mapping[str, float]

    @property
    def bad(self) -> list[str]:
        """Say which values are not finite."""
        return [f"{name} is {value}" for name, value in self.values.items() if not isfinite(value)]


def is_finite(measured: Sequence[Measured], grad_norm: float) -> bool:
    """Tell whether the losses of a step and the norm of its gradient are all finite."""
    return isfinite(grad_norm) and not any(m.bad for m in measured)


def fault(
    folder: Path,
    stage: str,
    step: int,
    measured: Sequence[Measured],
    grad_norm: float,
    batches: Callable[[int], Any],
) -> UvlmError:
    """Write the faulty batches into the state folder and return the error that names them.

    If only the gradient is not finite, every batch of the step is suspect.

    Args:
        folder: where to write.
        stage: what is being trained.
        step: number of the step, from 0.
        measured: the batches of all processes in this step.
        grad_norm: norm of the step's gradient.
        batches: makes a batch again from its number, so none had to be kept.
    """
    guilty = [m for m in measured if m.bad] or list(measured)
    facts = sorted({fact for m in guilty for fact in m.bad}) or [f"grad_norm is {grad_norm}"]
    case_ids = list(dict.fromkeys(case_id for m in guilty for case_id in m.case_ids))
    path = folder / "bad_batch.json"
    if place().is_first:
        named = [tensors_of(batches(m.number), str(m.number)) for m in guilty]
        tensors = {k: t.detach().cpu().clone().contiguous() for k, t in ChainMap(*named).items()}
        write_bytes_atomic(path.with_suffix(".safetensors"), save(tensors))
        where = {"step": step, "case_ids": case_ids, "values": facts}
        rows = [_row(m) for m in guilty]
        write_json_atomic(path, {**where, "grad_norm": str(grad_norm), "batches": rows})
    return UvlmError(
        stage,
        f"{', '.join(facts)} in step {step + 1} on cases {', '.join(case_ids)}",
        f"look at these cases ({path} and the batch beside it) or lower the learning rate",
    )


def tensors_of(value: Any, name: str) -> dict[str, Tensor]:
    """Find every tensor of a batch, under a dotted name that begins with `name`."""
    if isinstance(value, Tensor):
        return {name: value}
    if not isinstance(value, list | tuple):
        return {}
    keys = getattr(value, "_fields", range(len(value)))
    parts = [tensors_of(part, f"{name}.{key}") for key, part in zip(keys, value, strict=True)]
    return dict(ChainMap(*parts))


def _row(measured: Measured) -> dict[str, Any]:
    terms = {name: str(value) for name, value in measured.values.items()}  # JSON has no NaN
    return {"number": measured.number, "case_ids": list(measured.case_ids), "terms": terms}
