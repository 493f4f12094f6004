"""Lightning Fabric for one training: one process, or those that torchrun or srun started.

UVLM_STRATEGY   how several processes share a training that allows it: ddp (default) keeps all
                weights on each, fsdp2 spreads weights, gradients and optimiser over them
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, cast

from uvlm.device import choose_device, choose_precision, set_threads
from uvlm.errors import ConfigError
from uvlm.processes import is_srun, place

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import Strategy

_PATIENCE = timedelta(hours=12)


def launch(width: int | None = None, *, may_shard: bool = False) -> Fabric:
    """Lightning Fabric for this process and those that torchrun or srun started beside it.

    Args:
        width: of a network without convolutions, see `choose_precision`.
        may_shard: the caller shards its model where UVLM_STRATEGY asks for it.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment

    here = place()
    set_threads(here.local_size)
    device = choose_device()
    if device.index is not None and here.world_size > 1:
        raise ConfigError(
            "UVLM_DEVICE", f"{device} is one of {here.local_size} processes' devices", "use cuda"
        )
    alone = here.world_size == 1
    fabric = Fabric(
        accelerator=device.type,
        devices=[device.index] if device.index is not None else here.local_size,
        num_nodes=here.num_nodes,
        precision=choose_precision(device, width),
        strategy="auto" if alone else _strategy(choose_strategy() if may_shard else "ddp"),
        # Fabric takes any batch script of SLURM for srun, and would wait for processes in vain.
        plugins=None
        if is_srun() or "TORCHELASTIC_RUN_ID" in os.environ
        else LightningEnvironment(),
    )
    fabric.launch()
    return fabric


def choose_strategy() -> Literal["ddp", "fsdp2"]:
    """Read UVLM_STRATEGY."""
    name = os.environ.get("UVLM_STRATEGY") or "ddp"
    if name not in ("ddp", "fsdp2"):
        raise ConfigError("UVLM_STRATEGY", f"{name} is unknown", "use ddp or fsdp2")
    return cast(Literal["ddp", "fsdp2"], name)


def _strategy(name: Literal["ddp", "fsdp2"]) -> Strategy:
    """Set up what joins the processes; they wait long, for the first one validates alone."""
    from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy

    if name == "ddp":
        # A network may have outputs that no loss asks for, such as the lower resolutions.
        return DDPStrategy(timeout=_PATIENCE, find_unused_parameters=True)
    size = place().world_size
    return ModelParallelStrategy(
        lambda module, mesh: module, size, tensor_parallel_size=1, timeout=_PATIENCE
    )
