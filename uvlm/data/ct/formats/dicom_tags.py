"""What a DICOM header states in words: single tags, and the phase of contrast."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

from uvlm.data.ct.formats.dicom_header import CtFile, parsing
from uvlm.errors import ReadError

_NO_AGENT: Final = re.compile(r"(no|none|non|without|w/o|native|0|-)\b.*", re.IGNORECASE)
_PHASES: Final = {
    "without contrast": r"\b(native|nativ|non[- ]?contrast|unenhanced|without|w/?o|plain|nc)\b",
    "pulmonary arterial": r"\b(ctpa|pulmonary (angio\w*|art\w*)|pe protocol)\b",
    "arterial": r"\b(arterial|art)\b",
    "venous": r"\b(venous|ven|portal\w*|pv)\b",
    "delayed": r"\b(delayed|late|equilibrium)\b",
}
_LONGEST: Final = timedelta(hours=1)


def tag(file: CtFile, name: str) -> str:
    """Return the text of a tag that no voxel depends on; empty if it is missing or damaged."""
    try:
        with parsing(file.path):
            return str(file.dataset.get(name) or "").strip()
    except ReadError:
        return ""


def contrast_of(file: CtFile) -> tuple[str, ...]:
    """State agent, phase and delay in words that name nobody, as far as they are tagged."""
    agent = tag(file, "ContrastBolusAgent")
    facts = []
    if agent:
        facts.append("no contrast agent" if _NO_AGENT.fullmatch(agent) else "contrast agent given")
    # Underscores are letters to a regular expression.
    words = file.description.lower().replace("_", " ")
    phase = next((name for name, pattern in _PHASES.items() if re.search(pattern, words)), "")
    if phase:
        facts.append(f"phase {phase} (SeriesDescription)")
    delay = _delay(file)
    if delay is not None:
        facts.append(f"{delay.total_seconds():.0f} s after the injection began")
    return tuple(facts)


def _delay(file: CtFile) -> timedelta | None:
    """Time from ContrastBolusStartTime to the acquisition, if both are there and make sense."""
    began = _time(tag(file, "ContrastBolusStartTime"))
    taken = _time(tag(file, "AcquisitionTime") or tag(file, "AcquisitionDateTime")[8:])
    if began is None or taken is None:
        return None
    delay = (taken - began) % timedelta(days=1)  # an injection before midnight
    return delay if delay < _LONGEST else None


def _time(text: str) -> datetime | None:
    """Read hours, minutes and seconds of a DICOM time."""
    try:
        return datetime.strptime(text[:6], "%H%M%S")
    except ValueError:
        return None
