"""Who made the objects, under which UIDs, and what a text may hold.

    series    2.25.<digest of kind, the CT's series, model, contract>
    instance  2.25.<digest of its series, the draft, its number>

The same CT and model give the same series, and the same draft in it the same instances: an archive
that gets them twice keeps one copy. Another draft of the same model joins the same series.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import uvlm
from uvlm.files import key_of
from uvlm.text.draft import Draft

MANUFACTURER: Final = "U-VLM-Pipeline"
MODEL_NAME: Final = "uvlm, research software"
NOT_REVIEWED: Final = "research draft, not reviewed, not a medical device"
UTF8: Final = "ISO_IR 192"
SERIES_NUMBERS: Final = {"masks": 9101, "report": 9102, "planes": 9103, "pdf": 9104}
# Of a draft: what depends on the machine, and what no object holds.
_NOT_SAID: Final[Mapping[str, bool | set[str]]] = {
    "case_id": True,
    "provenance": {"read", "request", "seconds", "device"},
}
_LONG_STRING: Final = 64  # characters of LO
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def made_uid(*parts: str) -> str:
    """Derive a UID from what it names."""
    digest = hashlib.sha256("\0".join(["uvlm", *parts]).encode("utf-8", "replace")).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def plain(text: str) -> str:
    """Take out control characters, which no DICOM text may hold; ends of lines stay."""
    return _CONTROL.sub("", text.replace("\t", " "))


def long_string(text: str) -> str:
    """Fit a text into LO: one line of at most 64 characters without backslash."""
    line = " ".join(plain(text).replace("\\", "/").split())
    return line if len(line) <= _LONG_STRING else line[: _LONG_STRING - 3] + "..."


@dataclass(frozen=True)
class Identity:
    """UIDs and times of the objects of one draft."""

    ct_series: str
    model: str
    draft: str  # digest of all that the objects say
    made: datetime

    def series(self, kind: str) -> str:
        """Return the SeriesInstanceUID of a kind of object."""
        return made_uid("series", kind, self.ct_series, self.model)

    def instance(self, kind: str, number: int = 1) -> str:
        """Return the SOPInstanceUID of an object of this draft."""
        return made_uid("instance", self.series(kind), self.draft, str(number))

    def device(self) -> str:
        """Return the UID of the program with its model, as an observer."""
        return made_uid("device", uvlm.__version__, self.model)

    def series_arguments(self, kind: str, description: str, number: int = 1) -> dict[str, Any]:
        """Return what highdicom wants to know of series and instance."""
        return {
            "series_instance_uid": self.series(kind),
            "series_number": SERIES_NUMBERS[kind],
            "sop_instance_uid": self.instance(kind, number),
            "instance_number": number,
            "series_description": long_string(f"{description} ({NOT_REVIEWED})"),
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": MODEL_NAME,
            "software_versions": uvlm.__version__,
            "device_serial_number": self.model[:16],
            "content_date": self.made.date(),
            "content_time": self.made.time(),
            "specific_character_set": UTF8,
        }


def identity_of(draft: Draft, ct_series: str, masks_sha256: str) -> Identity:
    """Name the objects of a draft by what they say, on whatever machine and however fast."""
    document = draft.model_dump(mode="json", exclude=_NOT_SAID)
    made = draft.provenance
    said = key_of(document, masks_sha256, uvlm.__version__)
    model = f"{made.model_sha256} {made.contract_sha256}"
    return Identity(ct_series, model, said, datetime.now().replace(microsecond=0))
