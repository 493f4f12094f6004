"""Refuse a stage that will not fit, before its first step, with the table of docs/training.md."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from uvlm.config import Params
from uvlm.environment import EXECUTOR
from uvlm.errors import SetupError
from uvlm.estimates.largest_ct import largest_of_index
from uvlm.estimates.stages import (
    Cts,
    Estimate,
    estimate,
    has_estimate,
    reads_cts,
    workers_that_fit,
)
from uvlm.files import store_root
from uvlm.memory import Memory, usable_memory
from uvlm.processes import place
from uvlm.store import read_manifest

_MIB: Final = 2**20
ON_DEVICE: Final = ("train_seg", "train_cls", "encode", "train_report", "generate")
_FEWER_WORKERS: Final = "close other programs, or let fewer processes work at once: UVLM_WORKERS=1"


def check_memory(stage: str, params: Params, index: Path) -> None:
    """Compare the estimate of a stage with the memory there is.

    Args:
        stage: its name in dvc.yaml.
        params: all parameters.
        index: manifest of the stage `index`; before it, nothing is known about the CTs.

    Raises:
        SetupError: the estimate is larger.
    """
    if not has_estimate(stage, params) or not index.is_file():
        return
    if not (rows := read_manifest(index)):
        return
    # A stage with a network only counts CTs; looking at all of them takes minutes on a slow disk.
    grid = largest_of_index(rows, store_root()) if reads_cts(stage) else params.preprocess.grid
    found = estimate(stage, params, Cts(len(rows), grid))
    if found is not None:
        refuse_if_larger(found, *compared(found, usable_memory()))


def num_workers(stage: str, params: Params, index: Path) -> int | None:
    """Count the processes for which there is memory; None leaves it to the executor.

    Args:
        stage: its name in dvc.yaml.
        params: all parameters.
        index: manifest of the stage `index`.
    """
    if EXECUTOR.read() != "loky" or not reads_cts(stage) or not (rows := read_manifest(index)):
        return None
    return workers_that_fit(stage, params, Cts(len(rows), largest_of_index(rows, store_root())))


def refuse_if_larger(found: Estimate, needed: int, there: Memory) -> None:
    """Raise the one line and the table if more is needed than there is."""
    if needed <= there.num_bytes:
        return
    from uvlm.train.loop.memory import advice, table

    remedy = _FEWER_WORKERS
    if found.stage in ON_DEVICE:
        largest = max(found.sizes, key=lambda name: found.sizes[name][0])
        remedy = f"{advice(found.stage, found.batch_size, largest)}, or see docs/own_data.md"
    need = f"{found.stage} would need {needed / _MIB:,.0f} MiB by estimate"
    fact = f"{need}, and there are {there.num_bytes / _MIB:,.0f} MiB ({there.said_by})"
    error = SetupError("memory", fact, f"{remedy}; nothing was started")
    last = {"together": (needed, "estimated"), "there is": (there.num_bytes, there.said_by)}
    error.details = table({**found.sizes, **last})
    raise error


def compared(found: Estimate, usable: Memory) -> tuple[int, Memory]:
    """Return bytes needed and what there is: of a GPU, on which only tensors count, or ours."""
    if found.stage in ON_DEVICE:
        import torch

        from uvlm.device import choose_device

        if (device := choose_device()).type == "cuda":
            free = torch.cuda.mem_get_info(device)[0]
            return found.on_device, Memory(free, f"free on {torch.cuda.get_device_name(device)}")
    return found.total * place().local_size, usable
