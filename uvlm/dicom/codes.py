"""Coded concepts of the classes of a mask, in SNOMED CT as pydicom's dictionary knows it.

A code never says more than its class does: where the dictionary has no concept of just this
meaning, codes.json takes the next wider one, and the label of the segment names the class. A class
of another scheme gets a code of our own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from uvlm.dicom.identity import long_string
from uvlm.files import key_of

OUR_SCHEME: Final = "99UVLM"  # 99 marks a private coding scheme


@dataclass(frozen=True)
class Concept:
    """What a segment is: its category, type, side, and for a lesion the organ it lies in."""

    category: Code
    kind: Code
    side: Code | None = None
    site: Code | None = None
    is_lesion: bool = False


def concept_of(class_name: str) -> Concept:
    """Return the concept of a class."""
    entry = _table().get(class_name)
    if entry is None:
        return Concept(codes.SCT.AnatomicalStructure, our_code(class_name))
    is_lesion = bool(entry.get("site"))
    category = "MorphologicallyAbnormalStructure" if is_lesion else "AnatomicalStructure"
    side, site = entry.get("side"), entry.get("site")
    return Concept(
        snomed(category),
        snomed(entry["type"]),
        snomed(side) if side else None,
        snomed(site) if site else None,
        is_lesion,
    )


def our_code(meaning: str) -> Code:
    """Make a code of a concept that no dictionary here has."""
    return Code(key_of(meaning), OUR_SCHEME, long_string(meaning.replace("_", " ")))


def snomed(keyword: str) -> Code:
    """Look up a concept of SNOMED CT by its keyword."""
    code: Code = getattr(codes.SCT, keyword)
    return code


@cache
def _table() -> dict[str, dict[str, Any]]:
    text = files("uvlm.dicom").joinpath("codes.json").read_text(encoding="utf-8")
    table: dict[str, dict[str, Any]] = json.loads(text)
    return table
