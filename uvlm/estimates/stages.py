"""How large the process of each stage will become: an estimate, calibrated by measured peaks.

    program      what Python and the libraries take; measured
    tensors      from an imagined run of the same code (networks.py)
    allocator    what torch's CPU kernels and malloc take beside the tensors; a measured share
    volumes      per voxel of the largest CT, times the processes that work at once; measured

docs/training.md has the measurements and how far the estimates are off. A stage that is missing
here is small, or its memory is that of other programs (TotalSegmentator, ATM'22).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from types import MappingProxyType
from typing import Final

from uvlm.config import Grid, Params
from uvlm.environment import QWEN3, WORKERS, allowed_cores
from uvlm.memory import usable_memory

Sizes = Mapping[str, tuple[int, str]]  # bytes and a note, by what holds them

_MIB: Final = 2**20
PROGRAM: Final = 450 * _MIB  # of a stage with torch, Fabric and MLflow imported
_TRAINING: Final = 100 * _MIB  # what a training adds to the program
_CONVOLUTIONS: Final = 300 * _MIB  # and one of convolutions
_LIGHT: Final = 150 * _MIB  # of a worker of the data stages
_METEOR: Final = 2048 * _MIB  # the heap that METEOR gives its Java
# Of what changes from operation to operation; measured, see docs/training.md.
_ALLOCATOR: Final = MappingProxyType(
    {"train_seg": 1.4, "train_cls": 1.4, "encode": 1.3, "train_report": 0.6, "generate": 0.2}
)
_BYTES_PER_VOXEL: Final = MappingProxyType(  # of the CT's own grid, of the network's grid
    {"preprocess": (12, 6), "pseudo_label": (4, 0), "label_maps": (5, 4), "evaluate": (8, 4)}
)


@dataclass(frozen=True)
class Cts:
    """What the CTs of a run add: how many there are, and the largest grid (z, y, x)."""

    count: int
    largest: Grid


@dataclass(frozen=True)
class Estimate:
    """Bytes by what holds them, of one process."""

    stage: str
    sizes: Sizes
    batch_size: int = 1

    @property
    def total(self) -> int:
        """The peak of the whole process."""
        return sum(size for size, _ in self.sizes.values())

    @property
    def on_device(self) -> int:
        """Tensors alone: what a GPU has to hold at the least."""
        beside = ("program", "allocator", "volumes", "best and saved")
        return sum(size for name, (size, _) in self.sizes.items() if name not in beside)


def reads_cts(stage: str) -> bool:
    """Tell whether a stage holds CTs on their own grid."""
    return stage.partition("@")[0] in _BYTES_PER_VOXEL


def has_estimate(stage: str, params: Params) -> bool:
    """Tell whether a stage has something that grows."""
    return reads_cts(stage) or stage in _networks(params)


def estimate(stage: str, params: Params, cts: Cts) -> Estimate | None:
    """Estimate a stage by its name in dvc.yaml; None if it has nothing that grows."""
    name = stage.partition("@")[0]
    if name in _BYTES_PER_VOXEL:
        return Estimate(stage, _data_sizes(name, params, cts))
    make = _networks(params).get(name)
    return make(cts) if make else None


def workers_that_fit(stage: str, params: Params, cts: Cts) -> int | None:
    """Count the workers of a data stage for which there is memory; None if it has no estimate."""
    name = stage.partition("@")[0]
    return _workers(_one_ct(name, params, cts)) if name in _BYTES_PER_VOXEL else None


def estimates(params: Params, cts: Cts, stages: Iterable[str]) -> list[Estimate]:
    """Estimate those of the stages that have something that grows."""
    found = (estimate(stage, params, cts) for stage in stages)
    return [each for each in found if each is not None]


def _networks(params: Params) -> dict[str, Callable[[Cts], Estimate]]:
    """Map the stages that run a network here to their estimate."""
    result: dict[str, Callable[[Cts], Estimate]] = {}
    # Of a Qwen3, the folder says how large it is.
    has_sizes = params.decoder.kind == "scratch" or QWEN3.read() is not None
    if params.train_seg.steps:
        result["train_seg"] = partial(_training, "train_seg", params)
    if params.train_cls.steps:
        result["train_cls"] = partial(_training, "train_cls", params)
    if params.train_report.steps and has_sizes:
        result["train_report"] = partial(_training, "train_report", params)
    result["encode"] = partial(_inference, "encode", params)
    if has_sizes:
        result["generate"] = partial(_inference, "generate", params)
    return result


def _training(stage: str, params: Params, cts: Cts) -> Estimate:
    from uvlm.estimates import networks
    from uvlm.train.batches import CACHE_BYTES

    build = {
        "train_seg": networks.seg_training,
        "train_cls": networks.cls_training,
        "train_report": networks.report_training,
    }[stage]
    tensors = networks.training_sizes(build, params)
    has_convolutions = stage != "train_report" or params.train_report.encoder_lr_scale > 0
    program = PROGRAM + (_CONVOLUTIONS if has_convolutions else _TRAINING)
    bytes_per_voxel = {"train_seg": 3, "train_cls": 2}.get(stage, 0)
    kept = cts.count * prod(params.preprocess.grid) * bytes_per_voxel
    beside = {
        "volumes": (kept if kept < CACHE_BYTES else 0, f"{cts.count} cases kept in memory"),
        "allocator": _share(tensors, _ALLOCATOR[stage]),
        "program": (program, "without any data"),
    }
    return Estimate(stage, {**tensors, **beside}, getattr(params, stage).batch_size)


def _inference(stage: str, params: Params, cts: Cts) -> Estimate:
    from uvlm.estimates import networks

    make = networks.encode_sizes if stage == "encode" else networks.generate_sizes
    tensors = make(params)
    beside = {
        "allocator": _share(tensors, _ALLOCATOR[stage]),
        "program": (PROGRAM, "without any data"),
    }
    return Estimate(stage, {**tensors, **beside})


def _share(tensors: Sizes, share: float) -> tuple[int, str]:
    """Take a share of what changes from operation to operation."""
    moving = sum(tensors[name][0] for name in ("batch", "activations") if name in tensors)
    return int(share * moving), f"{share:.0%} of batch and activations"


def _one_ct(stage: str, params: Params, cts: Cts) -> int:
    """Estimate what the largest CT takes in one process."""
    native, own_grid = _BYTES_PER_VOXEL[stage]
    z, y, x = params.preprocess.grid
    # The plane resampled first: all native slices, already as wide as the grid.
    plane = 4 * cts.largest[0] * y * x if stage == "preprocess" else 0
    return native * prod(cts.largest) + plane + own_grid * z * y * x


def _workers(one: int) -> int:
    """Count the workers: as many as the user says, or as have a core and memory for a CT each."""
    if (chosen := WORKERS.read()) is not None:
        return chosen
    room = usable_memory().num_bytes - PROGRAM
    return max(1, min(allowed_cores(), room // (one + _LIGHT)))


def _data_sizes(stage: str, params: Params, cts: Cts) -> Sizes:
    """Multiply the largest CT by the processes that may hold one like it."""
    one = _one_ct(stage, params, cts)
    workers = 1 if stage == "evaluate" else min(_workers(one), cts.count)
    shape = "x".join(map(str, cts.largest))
    sizes = {
        "volumes": (workers * one, f"{workers} at once, each up to {shape}"),
        "program": ((_LIGHT * workers if workers > 1 else 0) + PROGRAM, "without any data"),
    }
    if stage == "evaluate" and params.evaluate.meteor:
        sizes["METEOR"] = (_METEOR, "heap of its Java")
    return sizes
