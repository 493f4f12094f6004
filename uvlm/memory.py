"""How much memory a process may have: what UVLM_MEMORY says, or what computer and limits leave.

    UVLM_MEMORY         set by the user; nothing else is looked at
    MemAvailable        what the computer can give without swapping
    memory.max          limit of a control group (containers, SLURM), version 2
    limit_in_bytes      the same, version 1
    ulimit -v           limit of this process's address space

The smallest counts. What this process already has is part of it, so the number can be compared with
the peak of a whole process. Files that a group has read count as its memory but give way.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uvlm.environment import MEMORY

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_UNLIMITED: Final = 2**60  # version 1 writes "no limit" as a number near 2**63


@dataclass(frozen=True, order=True)
class Memory:
    """Bytes, and who says so."""

    num_bytes: int
    said_by: str


def usable_memory(root: Path = Path("/")) -> Memory:
    """Find how large this process may become; `root` holds proc/ and sys/."""
    if (chosen := MEMORY.read()) is not None:
        return Memory(chosen, f"{MEMORY.name} says so")
    virtual, resident = _own(root)
    limits = [_of_the_computer(root, resident), *_of_groups(root, resident)]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        # Addresses that are reserved and never touched count against this limit only.
        limits.append(Memory(limit - (virtual - resident), "limit of this process (ulimit -v)"))
    return min(limits)


def peak_resident() -> int:
    """Return the largest resident memory that this process has had, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            # Unlike ru_maxrss, this begins anew when another program is executed.
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _own(root: Path) -> tuple[int, int]:
    """Read this process's addresses and resident memory, in bytes."""
    try:
        virtual, resident, *_ = (root / "proc/self/statm").read_text(encoding="ascii").split()
    except OSError:  # not Linux
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak, peak
    return int(virtual) * _PAGE, int(resident) * _PAGE


def _of_the_computer(root: Path, resident: int) -> Memory:
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = {name: text.split()[0] for name, _, text in (line.partition(":") for line in lines)}
        return Memory(int(sizes["MemAvailable"]) * 1024 + resident, "free on this computer")
    except (OSError, KeyError):
        return Memory(_PAGE * os.sysconf("SC_PHYS_PAGES"), "memory of this computer")


def _of_groups(root: Path, resident: int) -> Iterator[Memory]:
    """List what the control groups leave that this process is in, from its own up to the root."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for number, controllers, path in (line.split(":", 2) for line in lines):
        if number == "0":
            mount, names = "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mount = "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        top, own = root / mount, root / mount / path.lstrip("/")
        # In a container the path may be that outside; then only the mount's own top is there.
        for folder in (own, *(p for p in own.parents if p.is_relative_to(top))):
            if (left := _left_in_group(folder, names)) is not None:
                yield Memory(left + resident, "limit of the control group")


def _left_in_group(folder: Path, names: tuple[str, str, str]) -> int | None:
    """Subtract from a group's limit what it uses and cannot give back; None without a limit."""
    limit_name, usage_name, cached_name = names
    try:
        limit = int((folder / limit_name).read_text(encoding="ascii"))
        usage = int((folder / usage_name).read_text(encoding="ascii"))
        stat = (folder / "memory.stat").read_text(encoding="ascii").split()
    except (OSError, ValueError):  # no such group, or "max"
        return None
    cached = dict(zip(stat[::2], stat[1::2], strict=True)).get(cached_name, "0")
    return None if limit >= _UNLIMITED else limit - usage + int(cached)
