"""Which of several training processes this is, as their launcher says.

    started by                rank            of how many             on this computer
    torchrun, UVLM_DEVICES    RANK            WORLD_SIZE              LOCAL_WORLD_SIZE
    srun                      SLURM_PROCID    SLURM_STEP_NUM_TASKS    SLURM_NTASKS_PER_NODE
    nothing                   0               1                       1

A SLURM batch script that starts Python without srun counts as nothing: it runs one process, however
many tasks were reserved.
"""

from __future__ import annotations

from dataclasses import dataclass

from uvlm import environment
from uvlm.errors import ConfigError


@dataclass(frozen=True)
class Place:
    """The number of this process, and how many there are."""

    rank: int = 0
    world_size: int = 1
    local_size: int = 1

    @property
    def num_nodes(self) -> int:
        """The number of machines, each with `local_size` processes."""
        return self.world_size // self.local_size

    @property
    def is_first(self) -> bool:
        """Whether this is the process that logs, validates and writes for all."""
        return self.rank == 0


def place() -> Place:
    """Find the place of this process in its environment."""
    rank, size = environment.RANK.read(), environment.WORLD_SIZE.read()
    if rank is not None and size is not None:
        return Place(rank, size, environment.LOCAL_WORLD_SIZE.read() or size)
    if not is_srun():
        return Place()
    local = environment.SLURM_LOCAL_SIZE.read()
    if local is None:
        raise ConfigError("srun", "--ntasks-per-node is missing", "set it to one task per GPU")
    rank = environment.SLURM_RANK.needed("start the processes with srun")
    return Place(rank, environment.SLURM_SIZE.read(), local)


def own_cores() -> int:
    """Count the cores that this process may keep busy: those allowed, shared with its neighbours.

    The cores that srun gives a task are the task's own already.
    """
    cores = environment.allowed_cores()
    if is_srun() and environment.SLURM_CORES.read() is not None:
        return cores
    return max(1, cores // place().local_size)


def is_srun() -> bool:
    """Tell whether srun, and not torchrun, started this process as one of several."""
    return environment.RANK.read() is None and environment.SLURM_SIZE.read() > 1
