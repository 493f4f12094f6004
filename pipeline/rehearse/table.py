"""The table of a rehearsal: seconds, peak memory and bytes of every stage, measured."""

from __future__ import annotations

import datetime
import json
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.rehearse.stand_ins import StandIn
from pipeline.rehearse.watch import Watched
from uvlm.environment import allowed_cores
from uvlm.files import write_json_atomic, write_text_atomic
from uvlm.memory import usable_memory


@dataclass(frozen=True)
class Cost:
    """What a stage took: memory of its largest process, and of all of them at once."""

    stage: str
    seconds: float
    peak_mb: int
    together_mb: int
    cases: int
    num_bytes: int

    def line(self) -> str:
        """One line while the rehearsal runs."""
        return (
            f"{self.stage:<22}{self.seconds:>9.1f} s{self.together_mb:>8,} MB{self.cases:>7} rows"
        )

    def row(self) -> str:
        """One row of the table."""
        a_case = f"{self.num_bytes / self.cases:,.0f}" if self.cases and self.num_bytes else ""
        each = f"{self.seconds / self.cases:,.1f}" if self.cases else ""
        return (
            f"| {self.stage} | {self.cases or ''} | {self.seconds:,.1f} | {each} | "
            f"{self.peak_mb:,} | {self.together_mb:,} | {a_case} |\n"
        )


def read_cost(stage: str, found: Watched, project: Path, store: Path) -> Cost:
    """Add what the stage left in manifest and store."""
    manifest = project / "data" / "manifests" / f"{stage.replace('@', '_')}.jsonl"
    rows = manifest.read_text("utf-8").splitlines() if manifest.exists() else []
    paths = {json.loads(row).get("path", "") for row in rows} - {""}
    sizes = [(store / path).stat().st_size for path in paths if (store / path).is_file()]
    peaks = round(found.peak_mb), round(found.together_mb)
    return Cost(stage, round(found.seconds, 1), *peaks, len(rows), sum(sizes))


def write_table(
    out: Path,
    profile: str,
    found: Sequence[Cost],
    replaced: Sequence[StandIn],
    notes: Sequence[str],
    edge: int,
) -> Path:
    """Write rehearsal.md for people and rehearsal.json for programs."""
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
