"""Whether memory and disk are large enough, for all stages and all kinds of files together."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from uvlm.errors import SetupError
from uvlm.estimates.check import ON_DEVICE, compared, refuse_if_larger
from uvlm.estimates.stages import Estimate
from uvlm.memory import Memory, usable_memory


def missing_memory(found: Iterable[Estimate], gpu: Memory | None) -> list[str]:
    """Find the stages that will not fit.

    Args:
        found: the estimates.
        gpu: memory of the GPU to plan for; None takes the device that is here.
    """
    lines = []
    for each in found:
        needed, there = compared(each, usable_memory())
        if gpu is not None and each.stage in ON_DEVICE:
            needed, there = each.on_device, gpu
        try:
            refuse_if_larger(each, needed, there)
        except SetupError as error:
            lines.append(str(error))
    return lines


def missing_disk(needed: Sequence[tuple[str, int]], folder: Path) -> list[str]:
    """Add up all kinds of files, less what the folder already holds, and compare with the disk."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free, held = shutil.disk_usage(there).free, _bytes_below(folder)
    total = sum(num_bytes for _, num_bytes in needed)
    if total <= free + held:
        return []
    parts = ", ".join(f"{name} {num_bytes / 1e9:,.1f}" for name, num_bytes in needed if num_bytes)
    fact = f"{total / 1e9:,.1f} GB are needed in all ({parts})"
    fact += f", {held / 1e9:,.1f} GB are there and {free / 1e9:,.1f} GB free"
    remedy = "set UVLM_DATA_ROOT to a larger disk, keep fewer raw volumes, or choose fewer patients"
    return [str(SetupError(folder, fact, remedy))]


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
