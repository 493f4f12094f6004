"""Lightning Fabric for one training: one process, or those that torchrun or srun started."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import torch

from uvlm import environment
from uvlm.device import choose_device, choose_precision, is_tuned, set_threads
from uvlm.errors import ConfigError
from uvlm.processes import is_srun, place

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import Strategy

_PATIENCE = timedelta(hours=12)


def launch(width: int | None = None, *, may_shard: bool = False) -> Fabric:
    """Connect this process with those that torchrun or srun started beside it.

    Args:
        width: of a network without convolutions, see `choose_precision`.
        may_shard: whether the caller shards its model if UVLM_STRATEGY asks for it.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment

    here = place()
    set_threads()
    device = choose_device()
    if device.index is not None and here.world_size > 1:
        fact = f"{device} is one of {here.local_size} processes' devices"
        raise ConfigError(environment.DEVICE.name, fact, "use cuda")
    strategy = environment.STRATEGY.read() if may_shard else "ddp"
    fabric = Fabric(
        accelerator=device.type,
        devices=[device.index] if device.index is not None else here.local_size,
        num_nodes=here.num_nodes,
        precision=choose_precision(device, width),
        strategy=_strategy(strategy) if here.world_size > 1 else "auto",
        # Fabric mistakes any SLURM batch script for srun, and would wait for processes in vain.
        plugins=None if is_srun() or environment.TORCHRUN.read() else LightningEnvironment(),
    )
    torch.backends.cudnn.benchmark = is_tuned("cudnn")
    fabric.launch()
    return fabric


def _strategy(name: str) -> Strategy:
    """Choose how the processes work together; the timeout is long: the first validates alone."""
    from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy

    if name == "ddp":
        # Some outputs may be in no loss, such as the lower resolutions of the U-Net.
        return DDPStrategy(timeout=_PATIENCE, find_unused_parameters=True)
    size = place().world_size
    return ModelParallelStrategy(
        lambda module, mesh: module, size, tensor_parallel_size=1, timeout=_PATIENCE
    )
