"""A radiology report as two sections, and the one line of text that a model reads and writes.

    Findings: {findings} Impressions: {impression}

A section that says nothing ("Not given.", an empty table cell) becomes the empty string and is left
out of the line, so that no model learns to write that something was not given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

FINDINGS_HEADING = "Findings:"
IMPRESSION_HEADING = "Impressions:"
_SAYS_NOTHING = frozenset({"", "not given", "none", "nan"})
_FINDINGS = re.compile(rf"^{FINDINGS_HEADING}(?=\s|$)")
_IMPRESSION = re.compile(rf"(?:^|(?<=\s)){IMPRESSION_HEADING}(?=\s|$)")


@dataclass(frozen=True)
class Report:
    """What a radiologist saw and what it means; both sections are normalised on construction."""

    findings: str
    impression: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "findings", normalise_section(self.findings))
        object.__setattr__(self, "impression", normalise_section(self.impression))

    @property
    def text(self) -> str:
        """The line that models are trained on; `parse_report` reads it back."""
        headings = ((FINDINGS_HEADING, self.findings), (IMPRESSION_HEADING, self.impression))
        return " ".join(f"{heading} {section}" for heading, section in headings if section)

    @property
    def is_empty(self) -> bool:
        """Whether neither section says anything."""
        return not self.findings and not self.impression


def normalise_section(section: str) -> str:
    """Make every run of whitespace one space; empty when the section says nothing."""
    section = " ".join(section.split())
    return "" if section.rstrip(" .").lower() in _SAYS_NOTHING else section


def impression_places(text: str) -> tuple[int, int] | None:
    """Find where the heading of the impression begins, and where it ends; None without one."""
    match = _IMPRESSION.search(text)
    return match.span() if match else None


def parse_report(text: str) -> Report:
    """Split a line at its headings; text without any heading is all findings.

    Only the first impression heading counts, so that in a generated report that repeats itself the
    findings stay apart from everything written after them.
    """
    before, *after = _IMPRESSION.split(" ".join(text.split()), maxsplit=1)
    return Report(_FINDINGS.sub("", before), "".join(after))
