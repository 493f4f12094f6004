"""What `uvlm check-labels` reports about one CT and its labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from uvlm.data.labels.quality import CheckedLabels
from uvlm.data.labels.quality import check_labels as judge
from uvlm.data.labels.rules import Bodies, Plausible
from uvlm.errors import ConfigError
from uvlm.pages.label_quality import checked_page

SCHEMES: Final = ("total", "chest", "abdomen")


@dataclass(frozen=True, eq=False)
class LabelCheck:
    """One checked label map, to print as text or JSON."""

    ct: Path
    labels: Path
    checked: CheckedLabels
    rules: Plausible

    def to_json(self) -> dict[str, Any]:
        """List flags and structures."""
        facts = self.checked.judged.facts
        structures = facts.to_json()["structures"]
        return {
            "ct": str(self.ct),
            "labels": str(self.labels),
            "rules": self.rules.bodies,
            "regridded": self.checked.regridded,
            "flagged": bool(self.checked.judged.flags),
            "flags": [flag.to_json() for flag in self.checked.judged.flags],
            "structures": {self.rules.names[int(i)]: found for i, found in structures.items()},
        }

    def to_text(self) -> str:
        """Write a few lines for the terminal."""
        judged = self.checked.judged
        found = judged.facts.structures
        cut = sum(facts.is_cut for facts in found.values())
        lines = [f"{self.labels}: {len(found)} structures, {cut} of them cut by the CT's border"]
        if self.checked.regridded:
            lines.append("  resampled onto the grid of the CT")
        for flag in judged.flags:
            lines.append(f"  {flag.rule:10}{flag.structure.replace('_', ' ')}: {flag.fact}")
        if not judged.flags:
            lines.append("  nothing implausible" if found else "  no structure is labelled")
        return "\n".join(lines)


def check_labels(ct: Path, labels: Path, scheme: str, bodies: str, page: Path | None) -> LabelCheck:
    """Judge one label map and write its page, if one is wanted.

    Raises:
        ConfigError: an option is wrong; raised before the CT is read.
    """
    if scheme not in SCHEMES:
        raise ConfigError("--scheme", f"{scheme!r} is unknown", f"use {', '.join(SCHEMES)}")
    if bodies not in get_args(Bodies):
        raise ConfigError("--plausible", f"{bodies!r} is unknown", "use adult or phantom")
    if page is not None and not page.parent.is_dir():
        raise ConfigError(page, "is in a folder that does not exist", "make the folder first")
    whose: Bodies = "phantom" if bodies == "phantom" else "adult"
    checked = judge(ct, labels, scheme, whose)
    if page is not None:
        checked_page(checked, whose, page)
    return LabelCheck(ct, labels, checked, Plausible.of(whose, checked.fine))
