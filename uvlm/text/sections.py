"""Reports with headings of their own, taken apart into what a model learns to write.

    CT CHEST                        before any heading: stays with the findings
    INDICATION: Cough.              left out
    FINDINGS: Lungs are clear.      findings: Lungs are clear.
    **Conclusion**                  impression: Normal study.
    Normal study.

Indication, history, technique, comparison and the like cannot be seen in a CT, so a model that
learns to write them learns to make them up. They are left out only where it is plain where they
end, and named in `left_out`; all other text is kept, in its order.

A heading is a section's name before a colon, in any case: at the start of a line, where it may also
stand alone, or after the end of a sentence if it begins with a capital. Headings of organs
("LUNGS:") are text of the findings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from uvlm.text.report import Report

Section = Literal["findings", "impression"]
Kind = Literal["findings", "impression", "aside"]
_EXAM: Final = r"(?:exam(?:ination)?s?|stud(?:y|ies)|scans?|ct|imaging|procedure)"
_THIS: Final = r"(?:(?:type of |date of )?(?:exam(?:ination)?|study|procedure)(?: type| date)?)"
_NAMES: Final[dict[Kind, str]] = {
    "findings": r"(?:(?:chest )?(?:ct )?findings?|observations?)",
    "impression": (
        r"(?:(?:final )?impressions?|conclusions?|opinion|summary|interpretation|assessment)"
        r"(?:(?: ?/ ?| and | & )(?:plan|recommendations?|conclusions?|summary))?"
    ),
    "aside": (
        r"(?:(?:ct |scan |imaging |examination )?(?:techniques?|protocol)"
        r"|technical (?:factors|details)"
        r"|(?:clinical )?(?:indications?|history)"
        r"|clinical (?:information|details|data|question|context)"
        rf"|reason for (?:the |this )?(?:referral|request|visit|{_EXAM})"
        rf"|(?:comparisons?|priors?|previous {_EXAM})(?: {_EXAM})?|{_THIS}"
        r"|contrast(?: (?:agent|media|medium))?|(?:radiation )?dose)"
    ),
}
_MARKS: Final = r"[ \t>#*_]*"
_ANY: Final = "|".join(f"(?P<{kind}>{names})" for kind, names in _NAMES.items())
_AT_LINE_START: Final = re.compile(
    rf"^{_MARKS}(?:\d+[.)] *)?{_MARKS}(?:{_ANY}){_MARKS}(?:[:\uff1a][*_]*|(?=$))",
    re.IGNORECASE | re.MULTILINE,
)
# Inside a line: after a sentence, or in capitals after a word that is not. Names keep their case.
_INSIDE: Final = re.compile(
    rf"(?:(?<=[.;:!?\])\"'*_])|(?<=[^A-Z\s])(?=\s+[A-Z /&]+:)|(?=\s+\**Impressions?\**:))"
    rf"\s+{_MARKS}(?=[A-Z])(?i:{_ANY}){_MARKS}[:\uff1a][*_]*"
)
# A line of an aside goes on where the next one begins in lower case.
_NEXT_LINE: Final = re.compile(r"\n(?![ \t]*[a-z])")


class _Heading(NamedTuple):
    start: int
    end: int
    kind: Kind
    name: str
    starts_a_line: bool


@dataclass(frozen=True)
class SectionedReport:
    """A report, and the names of the sections that are not part of it."""

    report: Report
    left_out: tuple[str, ...]


@dataclass
class _Parts:
    """What has been read of one column so far."""

    findings: list[str] = field(default_factory=list)
    impression: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, section: Section, text: str) -> None:
        if text := " ".join(text.split()):
            (self.findings if section == "findings" else self.impression).append(text)


def split_sections(findings: str, impression: str = "") -> SectionedReport:
    """Take the text of one column, or of two, apart at its own headings.

    Args:
        findings: the whole report, or its findings; text without a heading is findings.
        impression: the column of the impression; text without a heading is impression.
    """
    first, second = _read(findings, "findings"), _read(impression, "impression")
    report = Report(
        _joined(first.findings, second.findings), _joined(first.impression, second.impression)
    )
    return SectionedReport(report, tuple(dict.fromkeys(first.left_out + second.left_out)))


def report_of_columns(findings: str, impression: str) -> Report:
    """Make a report of two columns that are sections already, unless one begins with a heading."""
    if any(_AT_LINE_START.match(column.lstrip()) for column in (findings, impression)):
        return split_sections(findings, impression).report
    return Report(findings, impression)


def has_only_headings(text: str) -> bool:
    """Whether a text has no more than headings, also of organs, and sections that are left out."""
    lines = [line for line in text.splitlines() if line.strip()]
    if all(line.rstrip().endswith(":") for line in lines):
        return True
    return bool(_headings(text)) and split_sections(text).report == Report("", "")


def _joined(first: Sequence[str], second: Sequence[str]) -> str:
    """Join the parts of a section; what both columns say is said once."""
    return " ".join([*first, *(text for text in second if text not in first)])


def _read(text: str, section: Section) -> _Parts:
    """Go from heading to heading; an aside does not change the section."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    parts, headings = _Parts(), _headings(text)
    parts.add(section, text[: headings[0].start] if headings else text)
    for number, heading in enumerate(headings):
        following = headings[number + 1 :]
        body = text[heading.end : following[0].start if following else len(text)]
        if heading.kind != "aside":
            section = heading.kind
            parts.add(section, body)
        elif end := _end_of_aside(body, heading, headings[:number], following):
            parts.left_out.append(heading.name)
            parts.add(section, body[end:])
        else:
            parts.add(section, text[heading.start : heading.end] + body)
    return parts


def _end_of_aside(
    body: str, heading: _Heading, before: Sequence[_Heading], after: Sequence[_Heading]
) -> int:
    """Find how much of the text behind a heading belongs to it; 0 if nobody can tell.

    Before the findings, everything up to the next heading does. Elsewhere it is a line, or nothing
    is certain: in "Technique: CT. Lungs are clear." the findings have no heading.
    """
    is_before_findings = all(other.kind == "aside" for other in before)
    if is_before_findings and after and after[0].kind != "impression":
        return len(body) or 1
    if not heading.starts_a_line:
        return 0
    content = len(body) - len(body.lstrip())
    line = _NEXT_LINE.search(body, content)
    if line is None:
        return (len(body) or 1) if after or before else 0
    return line.end()


def _headings(text: str) -> list[_Heading]:
    """Find all headings in their order."""
    found = {heading.end: heading for heading in _matches(text)}
    return sorted(found.values())


def _matches(text: str) -> Iterator[_Heading]:
    for pattern in (_INSIDE, _AT_LINE_START):
        for match in pattern.finditer(text):
            kind: Kind = next(kind for kind in _NAMES if match[kind])
            name = " ".join(match[kind].lower().split())
            yield _Heading(match.start(), match.end(), kind, name, pattern is _AT_LINE_START)
