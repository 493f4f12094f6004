"""ReXGroundingCT's dataset.json as typed rows: which finding is drawn in which channel.

{"train": [{"name": "train_1_a_1.nii.gz", "findings": {"0": "Nodule ..."},
            "categories": {"0": "2d"}, "shape": [512, 512, 238]}], "val": [], "test": []}
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uvlm.data.label_scheme import fine_classes
from uvlm.data.sets.ct_rate.layout import id_of
from uvlm.errors import DataError
from uvlm.tables import read_text, refuse

_SPLITS: Final = ("train", "val", "test")
_REMEDY: Final = "download it again"


@dataclass(frozen=True)
class GroundedVolume:
    """A volume with drawn findings; `categories` is by channel of the mask, "0" first."""

    case_id: str
    split: str
    categories: dict[str, str]
    shape: tuple[int, ...] = ()  # (x, y, z), as the file stores it


def read_grounding(path: Path) -> list[GroundedVolume]:
    """Read all splits; a malformed document is refused with all its errors."""
    try:
        document = json.loads(read_text(path))
        entries = [(split, n, e) for split in _SPLITS for n, e in enumerate(document[split])]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(path, f"not a ReXGroundingCT table ({error!r})", _REMEDY) from None
    known = fine_classes("chest").lesion_id_by_category
    problems = [p for split, n, e in entries if (p := _problem(e, f"{split}[{n}]"))]
    refuse(path, problems, _REMEDY)
    volumes = [
        GroundedVolume(
            id_of(e["name"]), split, dict(e.get("categories", {})), tuple(e.get("shape", ()))
        )
        for split, _, e in entries
    ]
    unknown = sorted({c for v in volumes for c in v.categories.values()} - set(known))
    if unknown:
        problems.append(f"has unknown categories {', '.join(unknown)}")
    counts = Counter(volume.case_id for volume in volumes)
    problems += [f"{case} comes {n} times" for case, n in sorted(counts.items()) if n > 1]
    refuse(path, problems, _REMEDY)
    return volumes


def _problem(entry: Any, place: str) -> str:
    """Say what is wrong with the form of one entry."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        return f"{place} has no name"
    # Outside the training split the categories may be private.
    categories = entry.get("categories", None if place.startswith("train") else {})
    if not isinstance(categories, dict):
        return f"{place} ({entry['name']}) has no categories"
    channels = {str(channel) for channel in range(len(categories))}
    for name in ("categories", "findings"):
        if name in entry and set(entry[name]) != channels:
            return f"{place} ({entry['name']}): {name} has the channels {sorted(entry[name])}"
    return ""
