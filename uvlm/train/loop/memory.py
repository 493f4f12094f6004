"""Out of memory: a table of what a training step holds, and which parameter to lower.

    what                   MiB
    weights                0.1   0.0 M numbers
    gradients              0.1
    optimiser              0.2   AdamW
    batch                 10.0   4096 cases
    activations       41,807.8   4096 cases, from a measured forward pass of one
    together          41,818.3
    there is             862.4   limit of this process (ulimit -v)

Activations are what the forward pass keeps for the backward pass. When even one case does not
fit, they are given as what had been kept when the memory ended.
"""

from __future__ import annotations

import os
import resource
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from uvlm.errors import SetupError, first_line
from uvlm.train.loop.sharding import is_sharded
from uvlm.train.losses.objectives import Objective

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_SIGNS = ("out of memory", "allocate memory", "not enough memory", "bad_alloc", "alloc_failed")
_MIB = 2**20
# What to lower, in this order, once a batch is a single case.
_SMALLER_BY_STAGE = {
    "train_seg": "train_seg.patch",
    "train_cls": "encoder.channels or preprocess.grid",
    "train_cls_head": "classifier.num_queries",
    "train_report": "decoder.max_report_tokens or injection.reference_stage's tokens",
}
_BATCH_KEYS = {"train_cls_head": "train_cls.head_warmup_batch_size"}


@dataclass(frozen=True, eq=False)
class Step:
    """What a training step consists of; `batch` draws one anew."""

    stage: str
    fabric: Fabric
    model: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective
    batch: Callable[[], Any]


def is_out_of_memory(error: BaseException) -> bool:
    """Recognise the exceptions of CUDA, of torch's CPU allocator and of Python."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and any(
        sign in str(error).lower() for sign in _SIGNS
    )


@contextmanager
def out_of_memory_explained(step: Step) -> Iterator[None]:
    """Turn an allocation that fails in this context into a table and one line of advice."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        reason = first_line(error)
        traceback.clear_frames(error.__traceback__)  # they hold the activations
    else:
        return
    raise explain(step, reason)


def explain(step: Step, reason: str) -> SetupError:
    """Measure what a step needs and say what to lower."""
    step.optimizer.zero_grad(set_to_none=True)
    if step.fabric.device.type == "cuda":
        torch.cuda.empty_cache()
    fixed = _fixed(step)
    try:
        batch = step.batch()
    except (RuntimeError, MemoryError):
        fixed["batch"] = (0, "not even this fits")
        batch_size, activations = 1, 0
    else:
        batch_size = len(batch.case_ids)
        fixed["batch"] = (sum(t.nbytes for t in _tensors(batch)), f"{batch_size} cases")
        activations, note = _activations(step, batch, batch_size)
        fixed["activations"] = (activations, note)
    total = sum(size for size, _ in fixed.values())
    there_is, where = _available(step.fabric.device)
    rows = {**fixed, "together": (total, ""), "there is": (there_is, where)}
    largest = max(fixed, key=lambda name: fixed[name][0])
    fact = f"out of memory ({reason}): {total / _MIB:,.0f} MiB needed, most of it {largest}"
    error = SetupError(step.stage, fact, _advice(step.stage, batch_size, largest))
    error.details = _table(rows)
    return error


def saved_for_backward(forward: Callable[[], object], model: nn.Module) -> tuple[int, bool]:
    """Bytes that `forward` keeps beside the weights, and whether it came to its end."""
    weights = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            result = forward()  # noqa: F841  keeps every storage alive, so no address comes twice
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return sum(kept.values()), False
    return sum(kept.values()), True


def _fixed(step: Step) -> dict[str, tuple[int, str]]:
    """List what a step holds whatever the batch is."""
    parameters = list(step.model.parameters())
    trained = [p for p in parameters if p.requires_grad]
    weights = sum(_bytes(t) for t in [*parameters, *step.model.buffers()])
    numbers = sum(p.numel() for p in parameters)
    slots = 2 if isinstance(step.optimizer, torch.optim.AdamW) else 1
    return {
        "weights": (weights, f"{numbers / 1e6:.1f} M numbers"),
        "gradients": (sum(_bytes(p) for p in trained), ""),
        "optimiser": (slots * sum(_bytes(p) for p in trained), type(step.optimizer).__name__),
    }


def _activations(step: Step, batch: Any, batch_size: int) -> tuple[int, str]:
    """Measure with one case, which may fit where the batch did not."""
    if is_sharded(step.model):  # a forward pass would wait for the other processes
        return 0, "not measured: the weights are sharded"
    one = step.fabric.to_device(_first_case(batch))
    step.model.train()

    def forward() -> object:
        with step.fabric.autocast():
            return step.objective.loss(step.model, one)

    size, complete = saved_for_backward(forward, step.model)
    if complete:
        return size * batch_size, f"{batch_size} cases, from a measured forward pass of one"
    return size * batch_size, "at least; not even one case fits"


def _advice(stage: str, batch_size: int, largest: str) -> str:
    """Name the parameter to lower."""
    if largest in ("weights", "gradients", "optimiser"):
        model = "decoder.width" if stage == "train_report" else "encoder.channels"
        return f"lower {model}, or spread train_report over GPUs with UVLM_STRATEGY=fsdp2"
    if batch_size > 1:
        key = _BATCH_KEYS.get(stage, f"{stage}.batch_size")
        lower = f"lower {key} from {batch_size} to {batch_size // 2}"
        doubled = f", and double {stage}.accumulate for the same gradient"
        return lower + ("" if stage in _BATCH_KEYS else doubled)
    return f"lower {_SMALLER_BY_STAGE.get(stage, 'the size of one case')}"


def _available(device: torch.device) -> tuple[int, str]:
    """Memory of the device, or what this process may use of the computer's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1], torch.cuda.get_device_name(device)
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        return limit, "limit of this process (ulimit -v)"
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "memory of this computer"


def _first_case(batch: Any) -> Any:
    def cut(value: Any) -> Any:
        if isinstance(value, Tensor) or not value or not isinstance(value[0], Tensor):
            return value[:1]
        return [cut(part) for part in value]

    return type(batch)(*(cut(value) for value in batch))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _bytes(tensor: Tensor) -> int:
    """Bytes that this process holds of it."""
    local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return int(local.nbytes)


def _table(rows: Mapping[str, tuple[int, str]]) -> str:
    lines = [f"{'what':<14}{'MiB':>12}"]
    lines += [
        f"{name:<14}{size / _MIB:>12,.1f}   {note}".rstrip() for name, (size, note) in rows.items()
    ]
    return "\n".join(lines)
