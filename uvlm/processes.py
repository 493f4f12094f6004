"""Which of several training processes this one is, read from whatever started them.

    started by                rank            of how many             on this computer
    torchrun, UVLM_DEVICES    RANK            WORLD_SIZE              LOCAL_WORLD_SIZE
    srun                      SLURM_PROCID    SLURM_STEP_NUM_TASKS    SLURM_NTASKS_PER_NODE
    nothing                   0               1                       1

A batch script of SLURM that starts Python without srun counts as nothing: it runs one process,
whatever number of tasks was reserved.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from uvlm.errors import ConfigError


@dataclass(frozen=True)
class Place:
    """Number of this process and how many there are."""

    rank: int = 0
    world_size: int = 1
    local_size: int = 1

    @property
    def num_nodes(self) -> int:
        """Machines, each with `local_size` processes."""
        return self.world_size // self.local_size

    @property
    def is_first(self) -> bool:
        """Whether this process logs, validates and writes for all."""
        return self.rank == 0


def place() -> Place:
    """Read the environment of this process."""
    env = os.environ
    if "RANK" in env and "WORLD_SIZE" in env:
        size = int(env["WORLD_SIZE"])
        return Place(int(env["RANK"]), size, int(env.get("LOCAL_WORLD_SIZE", size)))
    if not is_srun():
        return Place()
    if "SLURM_NTASKS_PER_NODE" not in env:
        raise ConfigError("srun", "--ntasks-per-node is not given", "give one task for each GPU")
    size, local = int(env["SLURM_STEP_NUM_TASKS"]), int(env["SLURM_NTASKS_PER_NODE"])
    return Place(int(env["SLURM_PROCID"]), size, local)


def is_srun() -> bool:
    """Tell whether srun started this process beside others, and torchrun did not."""
    return "RANK" not in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1
