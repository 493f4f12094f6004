"""What `benchmarks.map_trust` counted, as a record for `uvlm predict` and a page for people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from uvlm.pages.evidence.map_trust import (
    FILE_NAME,
    GONE_AT_LEAST,
    GONE_AT_MOST,
    NAMES,
    MapTrust,
    verdict,
)

GAP: Final = 2  # voxels between a finding and what counts as elsewhere


@dataclass
class Counts:
    """How many sentences were gone, of how many, by kind of change."""

    gone: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    by_name: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    peaks: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    phantoms: int = 0
    skipped: int = 0
    planted: int = 0

    def told(self) -> str:
        """Say in a line what is known so far."""
        shares = ", ".join(f"{kind} {self.share(kind):.2f}" for kind in sorted(self.gone))
        return f"{len(self.gone['here'])} sentences; {shares}"

    def share(self, kind: str) -> float:
        """Return the share that was gone; 0 of none."""
        return float(np.mean(self.gone[kind])) if self.gone[kind] else 0.0


def record(counts: Counts, model_sha256: str) -> dict[str, Any]:
    """Arrange what was measured as map_trust.json."""

    def removal(here: str, elsewhere: str) -> dict[str, Any]:
        shares = {"here": counts.share(here), "elsewhere": counts.share(elsewhere)}
        return shares | {"count": len(counts.gone[here])}

    return {
        "model_sha256": model_sha256,
        "phantoms": counts.phantoms,
        "phantoms_left_out": counts.skipped,
        "planted": removal("here", "elsewhere"),
        "planted_findings": counts.planted,
        "elsewhere_as_strong": counts.share("elsewhere, as strong"),
        "changes": {kind: len(gone) for kind, gone in sorted(counts.gone.items())},
        "maps": {kind: removal(kind, f"{kind} elsewhere") for kind in counts.peaks},
        "peak_in_finding": {kind: float(np.mean(hit)) for kind, hit in counts.peaks.items()},
        "by_abnormality": {
            name: {"true_positives": len(gone), "gone": float(np.mean(gone))}
            for name, gone in sorted(counts.by_name.items())
        },
    }


def page(document: Mapping[str, Any]) -> str:
    """Write what was measured as Markdown."""
    planted, maps = document["planted"], document["maps"]
    trust = MapTrust.of(document)
    rows = {"the planted finding": planted}
    rows |= {f"the tenth that the map of {NAMES[kind]} marks": m for kind, m in maps.items()}
    table = "\n".join(
        f"| {what} | {row['count']} | {row['here']:.3f} | {row['elsewhere']:.3f} |"
        for what, row in rows.items()
    )
    names = "\n".join(
        f"| {name} | {row['true_positives']} | {row['gone']:.2f} |"
        for name, row in document["by_abnormality"].items()
    )
    hits = document["peak_in_finding"].items()
    peaks = ", ".join(f"{NAMES[kind]} {hit:.2f}" for kind, hit in hits)
    return f"""# Do sentences rest on what they are about, and do maps show it?

{verdict(trust, list(maps))}

{planted["count"]} true sentences about {document["planted_findings"]} findings planted in
{document["phantoms"]} test phantoms; {document["phantoms_left_out"]} phantoms were left out because
their body cannot be told apart from what was planted. Goals: gone in at least {GONE_AT_LEAST} when
removed, in at most {GONE_AT_MOST} when as many voxels elsewhere are. Made by
`python -m benchmarks.map_trust`; [map_trust.json]({FILE_NAME}) has all numbers.

| removed | true sentences | gone | gone when as many voxels elsewhere are removed |
|---|---|---|---|
{table}

With the same change of Hounsfield units made elsewhere, as strong as the one that removed the
finding: {document["elsewhere_as_strong"]:.3f} gone. The strongest voxel of a map lies in the
finding or within {GAP} voxels of it: {peaks}.

| finding | true sentences | gone when it was removed |
|---|---|---|
{names}
"""
