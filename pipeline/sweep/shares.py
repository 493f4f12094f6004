"""What each worker of a sweep gets of this computer: cores, memory, GPUs; and the project's places.

A variable that a user has set counts for every worker as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Final, Self

from uvlm import environment
from uvlm.memory import usable_memory

_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"  # of CUDA itself
_MOST_LOADERS: Final = 16
_SQLITE: Final = "sqlite:///"


@dataclass(frozen=True)
class Shares:
    """The parts of each of `num_workers`, as large as when the sweep began.

    Args:
        num_workers: how many run at once.
        memory: bytes of all together.
        gpus: as CUDA names them; none if they are not to be spread.
    """

    num_workers: int
    memory: int
    gpus: Sequence[str]

    @classmethod
    def of_this_computer(cls, num_workers: int) -> Self:
        """Look at what is free."""
        return cls(num_workers, usable_memory().num_bytes, _gpus() if num_workers > 1 else ())

    def of(self, worker: int) -> dict[str, str]:
        """Return the variables of one worker that no user has set; one alone has no limits."""
        if self.num_workers == 1:
            return {}
        cores = max(1, environment.allowed_cores() // self.num_workers)
        shares = {
            environment.WORKERS.name: str(cores),
            environment.THREADS.name: str(cores),
            environment.MEMORY.name: f"{max(1, self.memory // self.num_workers // 10**6)}MB",
        }
        if self.gpus:
            shares[environment.LOADERS.name] = str(min(cores, _MOST_LOADERS))
        given = environment.inherited()
        free = {name: value for name, value in shares.items() if not given.get(name)}
        return free | self._gpus_of(worker)

    def _gpus_of(self, worker: int) -> dict[str, str]:
        """Choose as many GPUs as a training has processes; workers share if there are too few."""
        size = environment.DEVICES.read()
        groups = [self.gpus[at : at + size] for at in range(0, len(self.gpus) - size + 1, size)]
        return {_VISIBLE: ",".join(groups[worker % len(groups)])} if groups else {}


def places(root: Path) -> dict[str, str]:
    """Name from the root the folders that a user has named from here: workers are elsewhere."""
    named = {v.name: v.read() for v in environment.TABLE if v.name in environment.inherited()}
    found = {name: str(p.resolve()) for name, p in named.items() if isinstance(p, Path)}
    if (uri := environment.TRACKING_URI.read()) is not None:
        found[environment.TRACKING_URI.name] = _from(root, uri)
    return found | {environment.DVC_ROOT.name: str(root)}


def _from(root: Path, uri: str) -> str:
    """Let an address of MLflow that is a relative path begin at the root."""
    if uri.startswith(_SQLITE):
        return f"{_SQLITE}{root / uri.removeprefix(_SQLITE)}"
    is_path = ":" not in uri and uri != "databricks"
    return str(root / uri) if is_path else uri


def _gpus() -> list[str]:
    """List the GPUs to spread workers over; none where a user has chosen one, or none at all."""
    if environment.DEVICE.read() not in ("auto", "cuda"):
        return []
    if (chosen := environment.inherited().get(_VISIBLE)) is not None:
        # CUDA itself stops at the first that is none.
        return list(takewhile(lambda gpu: gpu not in ("", "-1"), map(str.strip, chosen.split(","))))
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
