"""What a stage of a rehearsal took."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pipeline.rehearse.watch import Watched


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
