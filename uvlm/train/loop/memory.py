"""Memory of a training step: recomputing to need less, and what to say when it runs out.

Recomputed, a residual block or a decoder's layer keeps its input only; the rest is computed again
on the way back: more time for less memory, the same gradients. When memory runs out, the user gets
a table of what a step holds and the parameter to lower:

    what                   MiB
    weights                0.1   0.0 M numbers
    gradients              0.1
    optimiser              0.2   AdamW
    batch                 10.0   4096 cases
    activations       41,807.8   4096 cases, from a measured forward pass of one
    together          41,818.3
    there is             862.4   limit of this process (ulimit -v)

Activations are what the forward pass keeps for the backward pass. If not even one case fits, the
table shows what had been kept until then.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from uvlm.errors import SetupError, first_line
from uvlm.memory import usable_memory
from uvlm.model.uvlm import Decoder
from uvlm.train.loop.faults import tensors_of
from uvlm.train.loop.sharding import is_sharded, local_bytes
from uvlm.train.losses.objectives import Objective

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_SIGNS = ("out of memory", "allocate memory", "not enough memory", "bad_alloc", "alloc_failed")
_MIB = 2**20
# What to lower once a batch is a single case.
_SMALLER_BY_STAGE = {
    "train_seg": "train_seg.patch",
    "train_cls": "encoder.channels or preprocess.grid",
    "train_cls_head": "classifier.num_queries",
    "encode": "encoder.channels or preprocess.grid",
    "generate": "preprocess.grid, train_seg.patch or generate.batch_size",
    "train_report": "decoder.max_report_tokens or injection.reference_stage's tokens",
}
_BATCH_KEYS = {"train_cls_head": "train_cls.head_warmup_batch_size"}


@dataclass(frozen=True, eq=False)
class Step:
    """What a training step consists of; `batch` makes one again."""

    stage: str
    fabric: Fabric
    model: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective
    batch: Callable[[], Any]


def recompute_blocks(encoder: ResidualEncoder) -> None:
    """Make every residual block of `encoder` recompute; names of weights stay the same."""
    for stage in encoder.stages:
        for block in stage.blocks:
            # Blocks have no dropout, so there is no random state to restore.
            block.forward = partial(_recomputed, block.forward, keeps_dropout=False)


def recompute_layers(decoder: Decoder) -> None:
    """Make every layer of `decoder` recompute, with the same dropout; names stay the same."""
    for layer in decoder.layers:
        layer.forward = partial(_recomputed, layer.forward, keeps_dropout=True)


def _recomputed(
    forward: Callable[..., Tensor], *inputs: Any, keeps_dropout: bool, **options: Any
) -> Tensor:
    if not torch.is_grad_enabled():  # a token of a report is not worth saving the random state
        return forward(*inputs, **options)
    y: Tensor = checkpoint(
        forward, *inputs, use_reentrant=False, preserve_rng_state=keeps_dropout, **options
    )
    return y


def is_out_of_memory(error: BaseException) -> bool:
    """Recognise the exceptions of CUDA, of torch's CPU allocator and of Python."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError | OSError) and any(sign in text for sign in _SIGNS)


@contextmanager
def out_of_memory_explained(step: Step) -> Iterator[None]:
    """Turn a failed allocation in this context into a table and one line of advice."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        reason = first_line(error)
        traceback.clear_frames(error.__traceback__)  # they hold the activations
    else:
        return
    # Out here the exception, and with it the last reference to the failed step, is gone.
    raise _explanation(step, reason)


def _explanation(step: Step, reason: str) -> SetupError:
    """Measure what a step needs and say what to lower."""
    step.optimizer.zero_grad(set_to_none=True)
    if step.fabric.device.type == "cuda":
        torch.cuda.empty_cache()
    fixed, batch_size = _fixed(step), 1
    try:
        batch = step.batch()
    except (RuntimeError, MemoryError):
        fixed["batch"] = (0, "not even this fits")
    else:
        batch_size = len(batch.case_ids)
        size = sum(tensor.nbytes for tensor in tensors_of(batch, "").values())
        fixed["batch"] = (size, f"{batch_size} cases")
        fixed["activations"] = _activations(step, batch, batch_size)
    total = sum(size for size, _ in fixed.values())
    rows = {**fixed, "together": (total, ""), "there is": _available(step.fabric.device)}
    largest = max(fixed, key=lambda name: fixed[name][0])
    fact = f"out of memory ({reason}): {total / _MIB:,.0f} MiB needed, most of it {largest}"
    error = SetupError(step.stage, fact, advice(step.stage, batch_size, largest))
    error.details = table(rows)
    return error


def saved_for_backward(forward: Callable[[], object], model: nn.Module) -> tuple[int, bool]:
    """Count the bytes that `forward` keeps beside the weights; tell whether it ran to its end."""
    weights = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    # Views share a storage, so bytes are counted by storage, not by tensor.
    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            result = forward()  # noqa: F841  keeps storages alive: no address is used twice
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return sum(kept.values()), False
    return sum(kept.values()), True


def _fixed(step: Step) -> dict[str, tuple[int, str]]:
    """List what a step holds whatever the batch."""
    parameters = list(step.model.parameters())
    weights = sum(local_bytes(t) for t in [*parameters, *step.model.buffers()])
    gradients = sum(local_bytes(p) for p in parameters if p.requires_grad)
    numbers = sum(p.numel() for p in parameters)
    moments = 2 if isinstance(step.optimizer, torch.optim.AdamW) else 1
    return {
        "weights": (weights, f"{numbers / 1e6:.1f} M numbers"),
        "gradients": (gradients, ""),
        "optimiser": (moments * gradients, type(step.optimizer).__name__),
    }


def _activations(step: Step, batch: Any, batch_size: int) -> tuple[int, str]:
    """Measure one case, which may fit where the batch did not."""
    if is_sharded(step.model):  # a forward pass would wait for the other processes
        return 0, "not measured: the weights are sharded"
    one = step.fabric.to_device(_first_case(batch))
    step.model.train()

    def forward() -> object:
        with step.fabric.autocast():
            return step.objective.loss(step.model, one)

    size, complete = saved_for_backward(forward, step.model)
    measured = f"{batch_size} cases, from a measured forward pass of one"
    return size * batch_size, measured if complete else "at least; not even one case fits"


def advice(stage: str, batch_size: int, largest: str) -> str:
    """Name the parameter to lower, given what is largest."""
    if largest in ("weights", "gradients", "optimiser"):
        model = "decoder.width" if stage == "train_report" else "encoder.channels"
        return f"lower {model}, or spread train_report over GPUs with UVLM_STRATEGY=fsdp2"
    if batch_size > 1:
        key = _BATCH_KEYS.get(stage, f"{stage}.batch_size")
        doubled = f", and double {stage}.accumulate for the same gradient"
        also = "" if stage in _BATCH_KEYS else doubled
        return f"lower {key} from {batch_size} to {batch_size // 2}{also}"
    return f"lower {_SMALLER_BY_STAGE.get(stage, 'the size of one case')}"


def _available(device: torch.device) -> tuple[int, str]:
    """Find the memory of the device, or what this process may use of the computer's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1], torch.cuda.get_device_name(device)
    there = usable_memory()
    return there.num_bytes, there.said_by


def _first_case(batch: Any) -> Any:
    """Cut every field of a batch to its first case; a list of tensors has one per stage.

    What an option leaves out is None.
    """

    def cut(value: Any) -> Any:
        if value is None:
            return None
        by_stage = isinstance(value, list) and isinstance(value[0], Tensor)
        return [tensor[:1] for tensor in value] if by_stage else value[:1]

    return type(batch)(*map(cut, batch))


def table(rows: Mapping[str, tuple[int, str]]) -> str:
    """Write bytes and a note, by what holds them, as lines of MiB."""
    lines = [f"{name:<14}{size / _MIB:>12,.1f}   {note}" for name, (size, note) in rows.items()]
    return "\n".join([f"{'what':<14}{'MiB':>12}", *map(str.rstrip, lines)])
