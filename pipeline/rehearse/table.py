"""The table of a rehearsal: seconds, peak memory and bytes of every stage, measured."""

from __future__ import annotations

import datetime
import platform
import re
from dataclasses import asdict
from pathlib import Path

from pipeline.rehearse.begun import Begun
from uvlm.environment import allowed_cores
from uvlm.files import write_json_atomic, write_text_atomic
from uvlm.memory import usable_memory


def write_table(out: Path, profile: str, begun: Begun, edge: int) -> Path:
    """Write rehearsal.md for people and rehearsal.json for programs."""
    found, replaced, notes = begun.costs, begun.stand_ins, begun.notes
    hardware, day = computer(), datetime.date.today().isoformat()
    total = sum(each.seconds for each in found)
    parts = [f"- {each.part}: {each.by}\n" for each in replaced] or ["- nothing\n"]
    text = (
        f"# Rehearsal of `{profile}`\n\n"
        f"Measured on {hardware}, {day}; CTs of {edge} x {edge} x {round(edge * 300 / 512)} voxels,"
        f" two steps a training. Together {total / 60:,.1f} min. Results mean nothing, and the"
        " numbers of a GPU are others.\n\n"
        f"Stand-ins:\n\n{''.join(parts)}\n"
        f"Smaller than the profile, to fit the memory: {'; '.join(notes) or 'nothing'}.\n\n"
        "| stage | rows | seconds | seconds a row | MB, largest process | MB, all at once "
        "| bytes a row |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    path = out / "rehearsal.md"
    write_text_atomic(path, text + "".join(each.row() for each in found))
    document = {
        "profile": profile,
        "edge": edge,
        "hardware": hardware,
        "day": day,
        "stand_ins": {each.part: each.by for each in replaced},
        "smaller": list(notes),
        "stages": [asdict(each) for each in found],
    }
    write_json_atomic(out / "rehearsal.json", document)
    return path


def computer() -> str:
    """Name processor, cores and memory."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    name = found[1] if found else platform.processor() or platform.machine()
    memory = usable_memory().num_bytes / 2**30
    return f"{name}, {allowed_cores()} cores, {memory:.0f} GiB free, no GPU"
